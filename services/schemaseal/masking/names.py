"""Field names that say their value is sensitive."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_BY_ENTITY = {
    "SECRET": """password passwd pwd passphrase passcode pin passwordhash secret secrets clientsecret sharedsecret
        secretkey secretaccesskey awssecretaccesskey token accesstoken refreshtoken idtoken authtoken bearertoken
        apitoken sessiontoken csrftoken apikey xapikey apisecret privatekey encryptionkey signingkey authorization
        proxyauthorization basicauthuserinfo credential credentials sessionid cookie setcookie connectionstring
        saslpassword otp mfacode cvv cvc cvv2 cvc2 cardverificationvalue cardsecuritycode securitycode""",
    "SSN": "ssn socialsecurity socialsecuritynumber socialsecurityno ssnumber itin taxid taxidentificationnumber",
    "CARD": "cardnumber cardno cardnum creditcard creditcardnumber debitcard debitcardnumber ccnumber ccnum pan",
    "IBAN": "iban ibannumber",
    "ACCOUNT": "accountnumber bankaccount bankaccountnumber routingnumber",
    "EMAIL": "email emailaddress mailaddress",
    "PHONE": "phone phonenumber telephone telephonenumber mobilenumber mobilephone",
    "BIRTHDATE": "dateofbirth birthdate dob birthday",
    "NAME": "firstname lastname middlename fullname surname givenname familyname maidenname",
    "ADDRESS": "streetaddress homeaddress postaladdress mailingaddress",
}
_ENTITY = {name: entity for entity, names in _BY_ENTITY.items() for name in names.split()}
# Whole name only: as the last word of a longer name these say little ("header cookie pin", "join token").
_WHOLE_ONLY = frozenset({"pin", "pan", "otp", "cookie", "phone"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


@lru_cache(maxsize=8192)
def is_sensitive_name(name: str) -> str | None:
    """The entity that a field of this name holds, or None. `card_number`, `cardNumber`, `userCardNumber` → CARD.

    Case, separators and compatibility forms do not matter. Looked at: the whole name and its last one to four
    words; so `token_type` is not sensitive and `db_password` is.
    """
    if len(name) > 128:
        return None
    folded = unicodedata.normalize("NFKC", name)
    whole = re.sub(r"[\W_]", "", folded).lower()
    if whole in _ENTITY:
        return _ENTITY[whole]
    words = [word.lower() for word in _WORDS.findall(folded)]
    for count in range(1, min(4, len(words)) + 1):
        tail = "".join(words[-count:])
        if tail in _ENTITY and tail not in _WHOLE_ONLY:
            return _ENTITY[tail]
    return None

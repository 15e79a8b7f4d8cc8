import json

import jwt
import pytest
from joserfc import jwe
from joserfc.jwk import RSAKey

from campaign_gateway.sandbox.answers import RefusedError
from campaign_gateway.sandbox.auth import App, Authenticator

SECRET = "a secret of sixty-four bytes, which is what HS512 would like best"
OTHER = "another secret of sixty-four bytes, and otherwise much like the 1"
CLIENT = "cs-1"


@pytest.fixture
def app():
    return App(CLIENT, SECRET)


@pytest.fixture
def verify(app, clock):
    authenticator = Authenticator(app, now=clock)

    def outcome(token):
        try:
            authenticator.verify(token)
        except RefusedError as refusal:
            return refusal.status, refusal.message, refusal.code
        return "accepted"

    return outcome


def signed(key=SECRET, algorithm="HS256", **claims):
    return jwt.encode({"appId": CLIENT} | claims, key, algorithm)


BAD_CREDENTIALS = (401, "Invalid SDK credentials", 4002)
NOT_A_TOKEN = (401, "Invalid JWT token", 4002)
EXPIRED = (401, "error verifying the jwt: jwt expired", 401)
REPLAY = (401, "error verifying the jwt: possibly a replay", 401)
TOO_LONG = (401, 'error verifying the jwt: if "jti" claim "exp" must be <= 1 hour(s)', 401)
NO_SCOPE = (401, "Permission denied. Scope is incorrect!", 4002)


@pytest.mark.parametrize(
    "claims",
    [
        {"appId": CLIENT},
        {"iss": CLIENT},
        {"kore_iss": CLIENT},
        {"appId": CLIENT, "kore_iss": "cs-2", "iss": "cs-3"},
        {"kore_iss": CLIENT, "iss": "cs-3"},
        {"appId": CLIENT, "sub": "1234567890", "aud": "https://idproxy.kore.ai/authorize"},
    ],
)
def test_accepted_claims(verify, claims):
    assert verify(jwt.encode(claims, SECRET, "HS256")) == "accepted"


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"appid": CLIENT},
        {"sub": CLIENT},
        {"appId": "cs-2", "iss": CLIENT},
        {"appId": [CLIENT]},
        {"appId": CLIENT, "exp": "soon"},
    ],
)
def test_refused_claims(verify, claims):
    assert verify(jwt.encode(claims, SECRET, "HS256")) == BAD_CREDENTIALS


def _part(value):
    return jwt.utils.base64url_encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    ("token", "outcome"),
    [
        (None, BAD_CREDENTIALS),
        ("", BAD_CREDENTIALS),
        ("not a jwt", NOT_A_TOKEN),
        ("a.b", NOT_A_TOKEN),
        ("a.b.c", NOT_A_TOKEN),
        ("a.b.c.d", NOT_A_TOKEN),
        (f"{signed()}.x", NOT_A_TOKEN),
        ("a.b.c.d.e", NOT_A_TOKEN),
        (f"Bearer {signed()}", NOT_A_TOKEN),
        (f"{_part([])}.{_part({})}.x", NOT_A_TOKEN),
        (f"{_part({})}.{_part([])}.x", NOT_A_TOKEN),
        (signed(OTHER), BAD_CREDENTIALS),
        (signed(algorithm="HS512"), BAD_CREDENTIALS),
        (signed(None, "none"), BAD_CREDENTIALS),
        (signed()[:-1], BAD_CREDENTIALS),
    ],
)
def test_refused_token(verify, token, outcome):
    assert verify(token) == outcome


def test_expiry(verify, clock):
    token = signed(exp=int(clock.now) + 10)
    assert verify(token) == "accepted"
    clock.advance(11)
    assert verify(token) == EXPIRED


def test_a_token_without_expiry_lives_on(verify, clock):
    token = signed()
    clock.advance(1e8)
    assert verify(token) == "accepted"


def test_a_single_use_token_works_once(verify, clock):
    token = signed(jti="1", exp=int(clock.now) + 3600)
    assert verify(token) == "accepted"
    assert verify(token) == REPLAY
    assert verify(signed(jti="2", exp=int(clock.now) + 60)) == "accepted"
    clock.advance(3_600)
    assert verify(token) == EXPIRED


def test_a_refused_token_uses_up_nothing(verify, clock):
    expiry = int(clock.now) + 60
    assert verify(signed(OTHER, jti="1", exp=expiry)) == BAD_CREDENTIALS
    assert verify(signed(jti="1", exp=expiry)) == "accepted"


def test_a_single_use_token_lives_an_hour_at_most(verify, clock):
    assert verify(signed(jti="1", exp=int(clock.now) + 3602)) == TOO_LONG
    assert verify(signed(jti="1")) == TOO_LONG


def test_enforced_jti(verify, app, clock):
    app.enforce_jti = True
    assert verify(signed(exp=int(clock.now) + 60)) == BAD_CREDENTIALS
    assert verify(signed(jti="1", exp=int(clock.now) + 60)) == "accepted"


def test_scope(verify, app):
    app.scopes = frozenset({"analytics"})
    assert verify(signed()) == NO_SCOPE
    assert verify(signed(OTHER)) == BAD_CREDENTIALS


def test_rotation(verify, app):
    app.secret = OTHER
    assert verify(signed()) == BAD_CREDENTIALS
    assert verify(signed(OTHER)) == "accepted"


def test_used_tokens_are_forgotten_once_expired(verify, clock, monkeypatch):
    monkeypatch.setattr("campaign_gateway.sandbox.auth._JTI_SWEEP_SIZE", 2)
    for jti in "abcd":
        assert verify(signed(jti=jti, exp=int(clock.now) + 60)) == "accepted"
        clock.advance(100)


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
def test_shared_secrets(clock, algorithm):
    claims = Authenticator(App(CLIENT, SECRET, algorithm), now=clock).verify(signed(algorithm=algorithm, sub="x"))
    assert claims == {"appId": CLIENT, "sub": "x"}


@pytest.mark.parametrize("algorithm", ["RS256", "RS512"])
def test_key_pairs(clock, algorithm, private_pem, public_pem):
    authenticator = Authenticator(App(CLIENT, "", algorithm, public_pem.decode()), now=clock)
    token = signed(private_pem, algorithm)
    assert authenticator.verify(token)["appId"] == CLIENT
    head, payload, signature = token.split(".")
    with pytest.raises(RefusedError):
        authenticator.verify(f"{head}.{payload}.{signature[:-8]}AAAAAAAA")


def encrypted(token, pem, enc, alg="RSA-OAEP"):
    header = {"alg": alg, "enc": enc, "kid": "platform", "typ": "JWT"}
    return jwe.encrypt_compact(header, token, RSAKey.import_key(pem), algorithms=[alg, enc])


@pytest.mark.parametrize("enc", ["A128CBC-HS256", "A128GCM", "A256GCM"])
def test_encrypted_tokens(verify, app, enc, private_pem, public_pem):
    app.decryption_key = private_pem.decode()
    assert verify(encrypted(signed(), public_pem, enc)) == "accepted"
    assert verify(encrypted(signed(OTHER), public_pem, enc)) == BAD_CREDENTIALS


def test_enforced_encryption(verify, app, private_pem, public_pem):
    app.decryption_key, app.enforce_jwe = private_pem.decode(), True
    assert verify(signed()) == BAD_CREDENTIALS
    assert verify(encrypted(signed(), public_pem, "A256GCM")) == "accepted"


def test_encrypted_rubbish(verify, app, private_pem, public_pem):
    token = encrypted(signed(), public_pem, "A256GCM")
    assert verify(token) == NOT_A_TOKEN
    app.decryption_key = private_pem.decode()
    assert verify(encrypted("no token", public_pem, "A256GCM")) == NOT_A_TOKEN
    assert verify(encrypted(b"\xff", public_pem, "A256GCM")) == BAD_CREDENTIALS
    assert verify(token[:-4] + "AAAA") == BAD_CREDENTIALS
    assert verify("a.b.c.d.e") == BAD_CREDENTIALS
    assert verify(encrypted(signed(), public_pem, "A256GCM", alg="RSA-OAEP-256")) == BAD_CREDENTIALS

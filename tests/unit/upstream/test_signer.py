import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwe
from joserfc.jwk import RSAKey

from campaign_gateway.upstream import signer as signer_module
from campaign_gateway.upstream.signer import Claims, Recipient, Secret, Signer
from tests.support.doubles import START, ManualClock

KEY = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
OTHER = KEY[::-1]
LIFETIME = 600.0
ALGORITHMS = ["HS256", "HS512", "RS256", "RS512"]


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch):
    monkeypatch.setattr(signer_module, "LOOK_SECONDS", 0.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START + 0.75)


@pytest.fixture
def make(clock):
    def make(
        secret: Secret | bytes = KEY,
        algorithm: str = "HS256",
        *,
        single_use: bool = False,
        recipient: Recipient | None = None,
    ) -> Signer:
        held = secret if isinstance(secret, Secret) else Secret(secret)
        return Signer(Claims("cs-1", "campaign-gateway", LIFETIME, single_use), algorithm, held, recipient, clock.now)

    return make


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(KEY + b"\n")
    return path


def replace(path, value: bytes) -> None:
    """The way secrets are replaced in a mounted volume: another file under the same name."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(value)
    fresh.rename(path)


def claims_of(token: str, key: bytes = KEY, algorithm: str = "HS256") -> dict[str, object]:
    return jwt.decode(token, key, [algorithm], options={"verify_exp": False, "verify_iat": False})


# Tokens.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_is_signed_as_set_and_says_exactly_what_the_platform_wants(make, algorithm, private_pem, public_pem):
    symmetric = algorithm.startswith("HS")
    token = make(KEY if symmetric else private_pem, algorithm).token()
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT"}
    assert claims_of(token, KEY if symmetric else public_pem, algorithm) == {
        "appId": "cs-1",
        "sub": "campaign-gateway",
        "iat": int(START) - 5,
        "exp": int(START) + 595,
    }


def test_single_use_adds_an_id_and_nothing_else(make):
    claims = claims_of(make(single_use=True).token())
    assert isinstance(claims.pop("jti"), str)
    assert set(claims) == {"appId", "sub", "iat", "exp"}


def test_a_token_is_reused_to_half_its_life_and_not_beyond(make, clock):
    signer = make()
    first = signer.token()
    clock.advance(LIFETIME / 2 - 0.001)
    assert signer.token() == first
    clock.advance(0.001)
    second = signer.token()
    assert second != first
    assert claims_of(second)["iat"] == int(START) + 295
    clock.advance(LIFETIME / 2 - 0.001)
    assert signer.token() == second


def test_a_single_use_token_is_fresh_each_time(make):
    signer = make(single_use=True)
    assert len({claims_of(signer.token())["jti"] for _ in range(200)}) == 200


# Secrets in files.


def test_white_space_around_a_secret_is_not_part_of_it(make, file):
    assert claims_of(make(Secret(file)).token(), KEY)["appId"] == "cs-1"


def test_a_file_that_is_not_there_stops_the_start(tmp_path):
    with pytest.raises(FileNotFoundError):
        Secret(tmp_path / "none")


@pytest.mark.parametrize("how", ["replaced", "written-over"])
def test_a_new_secret_signs_at_once_and_has_a_new_version(make, file, how):
    signer = make(Secret(file))
    first = signer.token()
    if how == "replaced":
        replace(file, OTHER)
    else:
        file.write_bytes(OTHER)
    second = signer.token()
    assert second != first
    assert claims_of(second, OTHER)["appId"] == "cs-1"
    assert signer.version == 2


def test_the_same_secret_written_again_changes_nothing(make, file):
    signer = make(Secret(file))
    first = signer.token()
    replace(file, KEY)
    assert signer.token() == first
    assert signer.version == 1


def test_a_change_back_is_a_change(make, file):
    signer = make(Secret(file))
    for value in (OTHER, KEY):
        replace(file, value)
        signer.token()
    assert signer.version == 3


@pytest.mark.parametrize("what", ["emptied", "blank", "vanished", "a-folder"])
def test_an_unusable_file_keeps_the_last_secret_until_there_is_a_good_one(make, file, what):
    secret = Secret(file)
    signer = make(secret)
    match what:
        case "emptied":
            file.write_bytes(b"")
        case "blank":
            file.write_bytes(b" \n")
        case "vanished":
            file.unlink()
        case _:
            file.unlink()
            file.mkdir()
    assert signer.renew(1) is False
    assert (secret.value, signer.version) == (KEY, 1)
    assert claims_of(signer.token())["appId"] == "cs-1"
    if file.is_dir():
        file.rmdir()
    file.write_bytes(OTHER)
    assert claims_of(signer.token(), OTHER)["appId"] == "cs-1"


def test_trouble_with_a_file_names_the_file_and_never_its_content(file, caplog):
    caplog.set_level("DEBUG")
    secret = Secret(file)
    file.unlink()
    secret.look()
    file.write_bytes(OTHER)
    secret.look()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert str(file) in caplog.text
    assert KEY.decode() not in caplog.text
    assert OTHER.decode() not in caplog.text


def test_a_file_is_not_looked_at_for_every_token(make, file, monkeypatch):
    monkeypatch.setattr(signer_module, "LOOK_SECONDS", 3600.0)
    signer = make(Secret(file))
    replace(file, OTHER)
    assert claims_of(signer.token(), KEY)["appId"] == "cs-1"
    assert signer.version == 1


def test_renew_looks_at_once_and_tells_whether_there_is_another(make, file, monkeypatch):
    monkeypatch.setattr(signer_module, "LOOK_SECONDS", 3600.0)
    signer = make(Secret(file))
    assert signer.renew(1) is False
    replace(file, OTHER)
    assert signer.renew(1) is True
    assert signer.renew(1) is True, "a second call that was refused the old secret learns of the new one as well"
    assert signer.renew(2) is False
    assert claims_of(signer.token(), OTHER)["appId"] == "cs-1"


def test_a_fixed_secret_is_never_another(make):
    signer = make(KEY)
    assert signer.renew(1) is False
    assert signer.version == 1


def test_a_key_file_replaced_by_something_that_cannot_sign_keeps_the_last_key(make, tmp_path, private_pem, public_pem):
    """Such a file is as unusable as an empty one, and each failed signature would cost a slot of the budget."""
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem)
    signer = make(Secret(path), "RS256")
    signer.token()
    replace(path, b"-----BEGIN PRIVATE KEY-----\nhalf of a k")
    assert claims_of(signer.token(), public_pem, "RS256")["appId"] == "cs-1"


# Encrypted tokens.


@pytest.mark.parametrize("enc", ["A128CBC-HS256", "A128GCM", "A256GCM"])
def test_an_encrypted_token_is_the_signed_one_for_the_platforms_eyes_only(make, enc, private_pem, public_pem):
    token = make(recipient=Recipient(Secret(public_pem), "key-7", "RSA-OAEP", enc)).token()
    opened = jwe.decrypt_compact(token, RSAKey.import_key(private_pem), algorithms=["RSA-OAEP", enc])
    assert opened.protected == {"alg": "RSA-OAEP", "enc": enc, "kid": "key-7", "typ": "JWT", "cty": "JWT"}
    assert opened.plaintext is not None
    assert claims_of(opened.plaintext.decode())["appId"] == "cs-1"
    assert token.count(".") == 4


def test_an_encrypted_token_is_reused_too(make, public_pem):
    signer = make(recipient=Recipient(Secret(public_pem), "key-7", "RSA-OAEP", "A256GCM"))
    assert signer.token() == signer.token()


def test_a_new_public_key_is_used_at_once_and_one_that_cannot_be_read_is_not(make, tmp_path, private_pem, public_pem):
    other = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path = tmp_path / "platform.pem"
    path.write_bytes(other.public_key().public_bytes(*form))
    signer = make(recipient=Recipient(Secret(path), "key-7", "RSA-OAEP", "A256GCM"))
    signer.token()
    replace(path, public_pem)
    version = signer.version
    assert jwe.decrypt_compact(signer.token(), RSAKey.import_key(private_pem)).plaintext
    assert signer.renew(version) is True
    replace(path, b"-----BEGIN PUBLIC KEY-----\nhalf of a k")
    assert jwe.decrypt_compact(signer.token(), RSAKey.import_key(private_pem)).plaintext


def test_encrypted_single_use_tokens_are_each_their_own(make, private_pem, public_pem):
    signer = make(single_use=True, recipient=Recipient(Secret(public_pem), "key-7", "RSA-OAEP", "A256GCM"))
    key = RSAKey.import_key(private_pem)
    opened = [jwe.decrypt_compact(signer.token(), key).plaintext or b"" for _ in range(3)]
    assert len({claims_of(token.decode())["jti"] for token in opened}) == 3


def test_no_secret_is_in_a_signers_or_a_secrets_text(make):
    signer = make()
    token = signer.token()
    for thing in (signer, Secret(KEY), Claims("cs-1", "s", 1.0, is_single_use=False)):
        assert KEY.decode() not in repr(thing)
        assert token not in repr(thing)


@pytest.mark.drill(
    "a clock set back, a refused token",
    planted="a manual clock",
    seen="no token of another time, none twice",
)
def test_a_clock_set_back_or_a_process_that_stood_still_uses_no_token_of_another_time(clock):
    steady = ManualClock(0.0)
    signer = Signer(
        Claims("cs-1", "x", LIFETIME, is_single_use=False), "HS256", Secret(KEY), None, clock.now, steady.now
    )
    ahead = signer.token()
    clock.advance(-3_600)
    now = signer.token()
    assert claims_of(now)["iat"] == int(START) - 3_605, "the other is from the future"
    assert now != ahead
    assert signer.token() == now
    steady.advance(LIFETIME / 2)
    clock.advance(1)
    assert claims_of(signer.token())["iat"] == int(START) - 3_604, "half its life has gone by on the steady clock"


@pytest.mark.drill("a clock set back, a refused token")
def test_a_refused_token_is_not_sent_again(make, clock):
    signer = make()
    refused = signer.token()
    assert signer.token() == refused
    assert not signer.renew(signer.version), "there is no other secret"
    clock.advance(1)
    assert signer.token() != refused


@pytest.mark.parametrize(
    "around",
    [
        pytest.param(lambda key: b"\xef\xbb\xbf" + key + b"\r\n", id="utf-8-mark"),
        pytest.param(lambda key: (key.decode() + "\r\n").encode("utf-16"), id="utf-16"),
        pytest.param(lambda key: b"\xfe\xff" + (key.decode() + "\n").encode("utf-16-be"), id="utf-16-be"),
        pytest.param(lambda key: b" \n" + key + b"\0\n", id="white-space-and-nul"),
    ],
)
def test_what_editors_leave_around_a_secret_is_no_part_of_it(tmp_path, around):
    path = tmp_path / "odd"
    path.write_bytes(around(KEY))
    assert Secret(path).value == KEY

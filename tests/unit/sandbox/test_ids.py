import random
import re

from campaign_gateway.sandbox import ids

TAIL = "-[0-9a-f]{4}-%s[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def test_voice_ids_begin_with_seven_digits_and_say_version_four():
    assert re.fullmatch("cd-[0-9a-f]{7}" + TAIL % 4, ids.voice_id(random.Random(1), "cd"))


def test_sms_ids_begin_with_eight_digits_and_say_version_five():
    assert re.fullmatch("cid-[0-9a-f]{8}" + TAIL % 5, ids.sms_id(random.Random(1), "cid"))


def test_object_ids_have_24_digits():
    assert re.fullmatch("[0-9a-f]{24}", ids.object_id(random.Random(1)))


def test_a_seed_fixes_ids():
    assert ids.voice_id(random.Random(7), "cl") == ids.voice_id(random.Random(7), "cl")
    assert ids.voice_id(random.Random(7), "cl") != ids.voice_id(random.Random(8), "cl")

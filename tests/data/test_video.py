import av
import numpy as np
import pytest
from PIL import Image

from coda_jax import InputError
from coda_jax.data.video import open_video, write_video

FRAMES = [np.full((16, 24, 3), (40 * number, 100, 200), np.uint8) for number in range(5)]


def colours(video):
    return [np.asarray(frame.convert("RGB"))[8, 12] for frame in video.frames()]


# MP4 compresses: colours are off by a few of 255 steps. A GIF of one colour is exact.
@pytest.mark.parametrize(("suffix", "tolerance"), [(".gif", 0), (".mp4", 6)])
def test_what_is_written_is_read(tmp_path, suffix, tolerance):
    path = tmp_path / f"moving{suffix}"
    write_video(path, iter(FRAMES), rate=20)
    video = open_video(path)
    assert (video.count, video.rate) == (5, 20)
    for _ in range(2):  # From the first frame on, every time.
        np.testing.assert_allclose(colours(video), [frame[8, 12] for frame in FRAMES], atol=tolerance)


def test_an_mp4_is_one_that_browsers_play(tmp_path):
    write_video(tmp_path / "moving.mp4", iter(FRAMES), rate=20)
    with av.open(tmp_path / "moving.mp4") as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")


def test_a_video_that_was_filmed_upright(tmp_path):
    path = tmp_path / "moving.mp4"
    left_is_white = np.zeros((16, 24, 3), np.uint8)
    left_is_white[:, :12] = 255
    write_video(path, iter([left_is_white] * 3), rate=20)
    # The matrices in an MP4's header: the first one, of the film, and that of the track, to turn by 90° clockwise.
    as_it_is, turned = (
        b"".join(number.to_bytes(4, "big", signed=True) for number in (*(65536 * value for value in matrix), 2**30))
        for matrix in ((1, 0, 0, 0, 1, 0, 0, 0), (0, 1, 0, -1, 0, 0, 0, 0))
    )
    film, track, rest = path.read_bytes().split(as_it_is)
    path.write_bytes(film + as_it_is + track + turned + rest)
    frame = next(open_video(path).frames())
    assert frame.size == (16, 24)
    top, bottom = np.asarray(frame)[2].mean(), np.asarray(frame)[-3].mean()
    assert (top > 200, bottom < 50) == (True, True)


def test_a_gif_that_names_no_durations(tmp_path):
    images = [Image.fromarray(frame) for frame in FRAMES]
    images[0].save(tmp_path / "moving.gif", save_all=True, append_images=images[1:])
    assert open_video(tmp_path / "moving.gif").rate == 10


def test_still_pictures_and_other_files_are_no_videos(tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "still.png")
    (tmp_path / "text.txt").write_text("text")
    assert open_video(tmp_path / "still.png") is None
    assert open_video(tmp_path / "text.txt") is None


def test_a_damaged_video(tmp_path):
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(InputError, match="no.mp4: not a video that FFmpeg can read"):
        open_video(tmp_path / "no.mp4")


def test_frames_of_damaged_pictures_end_before_the_damage(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    whole, damaged = tmp_path / "whole.gif", tmp_path / "damaged.gif"
    write_video(whole, iter(pixels), rate=20)
    content, frames = whole.read_bytes(), colours(open_video(whole))
    damaged.write_bytes(content[: len(content) // 2])
    video = open_video(damaged)
    assert video.rate == 20 and 1 < video.count < 5
    np.testing.assert_array_equal(colours(video), frames[: video.count])


def test_any_damage_is_borne(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "moving.gif"
    write_video(path, iter(FRAMES), rate=20)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(100):
        damaged = content[: random.integers(len(content) // 2, len(content))].copy()
        damaged[random.integers(13, len(damaged), 3)] = random.integers(256, size=3)  # What goes before is the size.
        path.write_bytes(damaged.tobytes())
        video = open_video(path)
        assert video is None or len(colours(video)) == video.count


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_the_rate_of_animated_pictures(tmp_path, suffix):
    images, path = [Image.fromarray(frame) for frame in FRAMES], tmp_path / f"moving{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=50)
    assert open_video(path).rate == 20


def test_a_gif_of_longer_frames_than_it_can_say(tmp_path):
    write_video(tmp_path / "moving.gif", iter(FRAMES), rate=1e-4)
    assert open_video(tmp_path / "moving.gif").rate == 1 / 655.35


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        write_video(tmp_path / "none" / "moving.mp4", iter(FRAMES), rate=20)

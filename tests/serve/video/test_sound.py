"""Sound of every sort: there, in time, with its channels and tags; and the times of frames that AVI lacks."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from serve_graphs import halves, write_graph

from serve import Segmenter
from serve.video.segment import note, segment_video

SECONDS = 2


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(write_graph(tmp_path_factory.mktemp("graph") / "m.onnx"), threads=1)


def tones(channels: int, rate: int) -> np.ndarray:
    """Silence in the first second, then another tone on every channel; float32 [channels, samples]."""
    time = np.arange(SECONDS * rate) / rate
    waves = np.stack([0.2 * np.sin(2 * np.pi * (300 + 150 * k) * time) for k in range(channels)])
    return (waves * (time >= 1)).astype(np.float32)


def write(path: Path, *sounds: dict, video: str = "libx264") -> Path:
    """A clip with streams of sound: codec, rate, layout, options, bit_rate and tags of each."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video, rate=10)
        pictures.height, pictures.width, pictures.pix_fmt = 72, 96, "yuv420p"
        streams = []
        for sound in sounds:
            stream = container.add_stream(
                sound["codec"], rate=sound.get("rate", 48000), options=sound.get("options", {})
            )
            stream.codec_context.layout = sound.get("layout", "stereo")
            if "bit_rate" in sound:
                stream.codec_context.bit_rate = sound["bit_rate"]
            stream.metadata.update(sound.get("tags", {}))
            streams.append(stream)
        for _ in range(10 * SECONDS):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(halves(), format="rgb24")))
        container.mux(pictures.encode(None))
        for stream in streams:
            rate, layout = stream.codec_context.sample_rate, stream.codec_context.layout
            wave = tones(layout.nb_channels, rate)
            packed = np.ascontiguousarray(wave.T).reshape(1, -1)
            for start in range(0, wave.shape[1], 1024):
                part = packed[:, start * layout.nb_channels : (start + 1024) * layout.nb_channels]
                frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout.name)
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def listen(path: Path, position: int = 0) -> tuple[str, int, str, float, list[float]]:
    """Codec, rate, layout, when the tones begin in seconds, and the tone of every channel in Hz."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[position]
        frames = list(container.decode(stream))
        codec, rate, layout = stream.codec.canonical_name, stream.rate, stream.layout.name
        wave = np.zeros((stream.layout.nb_channels, (SECONDS + 1) * rate))
        start = 0
        for frame in frames:
            part = frame.to_ndarray().astype(float)
            if not frame.format.is_planar:
                part = part.reshape(-1, len(wave)).T
            if frame.pts is not None:
                start = max(round(float(frame.pts * frame.time_base) * rate), 0)
            wave[:, start : start + part.shape[1]] = part[:, : wave.shape[1] - start]
            start += part.shape[1]
    loud = np.abs(wave[0]) > np.abs(wave[0]).max() / 4
    middle = wave[:, int(1.2 * rate) : int(1.8 * rate)]
    peaks = np.abs(np.fft.rfft(middle)).argmax(1) / 0.6
    return codec, rate, layout, float(loud.argmax() / rate), [float(peak) for peak in peaks]


PCM = "pcm_s16le"
AMR = {"codec": "libopencore_amrnb", "rate": 8000, "layout": "mono", "bit_rate": 12200}


@pytest.mark.parametrize(
    ("suffix", "given", "codec", "rate"),
    [
        (".avi", {"codec": "libmp3lame"}, "mp3", 48000),
        (".avi", {"codec": "libmp3lame", "rate": 44100}, "mp3", 44100),
        (".mkv", {"codec": "libmp3lame", "rate": 22050, "layout": "mono"}, "mp3", 22050),
        (".avi", {"codec": "libmp3lame", "rate": 8000, "layout": "mono"}, "aac", 8000),
        (".avi", {"codec": "wmav2", "rate": 44100, "bit_rate": 128000}, "aac", 44100),
        (".avi", {"codec": "wmav1", "rate": 22050, "bit_rate": 64000, "layout": "mono"}, "aac", 22050),
        (".wmv", {"codec": "wmav2", "rate": 44100, "bit_rate": 128000}, "aac", 44100),
        (".avi", {"codec": "adpcm_ms", "rate": 44100}, "aac", 44100),
        (".avi", {"codec": "adpcm_ima_wav", "rate": 22050, "layout": "mono"}, "aac", 22050),
        (".mov", {"codec": "adpcm_ima_qt", "rate": 44100}, "aac", 44100),
        (".avi", {"codec": PCM, "rate": 8000, "layout": "mono"}, "aac", 8000),
        (".mov", {"codec": "pcm_s24le", "rate": 96000}, "aac", 48000),
        (".avi", {"codec": "pcm_mulaw", "rate": 8000, "layout": "mono"}, "aac", 8000),
        (".3gp", AMR, "aac", 8000),
        (".mkv", {"codec": "libopus"}, "opus", 48000),
        (".mkv", {"codec": "vorbis", "rate": 44100, "options": {"strict": "-2"}}, "aac", 44100),
        (".avi", {"codec": "ac3"}, "ac3", 48000),
        (".ts", {"codec": "mp2"}, "aac", 48000),
        (".mov", {"codec": "alac", "rate": 44100}, "alac", 44100),
    ],
    ids=lambda value: value["codec"] if isinstance(value, dict) else str(value),
)  # fmt: skip
def test_sound_of_every_codec_is_there_and_in_time(tmp_path, segmenter, suffix, given, codec, rate) -> None:
    source = write(tmp_path / f"in{suffix}", given, video="wmv2" if suffix == ".wmv" else "libx264")
    report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert report.audio_streams == 1 and report.left_out == report.sound_changes == ()
    before, after = listen(source), listen(tmp_path / "out.mp4")
    assert after[:3] == (codec, rate, given.get("layout", "stereo"))
    with av.open(str(source)) as container:
        first = (container.start_time or 0) / 1_000_000
    assert after[3] == pytest.approx(before[3] - first, abs=0.06)
    assert after[4] == pytest.approx(before[4], abs=5)
    assert after[4][0] == pytest.approx(300, abs=5)


@pytest.mark.parametrize(
    ("suffix", "codec", "layout", "kept"),
    [
        (".mkv", PCM, "5.1", "5.1"),
        (".mov", PCM, "5.1(side)", "5.1"),
        (".mov", PCM, "3.0", "3.0"),
        (".mkv", "flac", "5.1(side)", "5.1(side)"),
        (".mkv", "ac3", "5.1(side)", "5.1(side)"),
    ],
)
def test_surround_keeps_its_channels_in_their_places(
    tmp_path, segmenter, suffix, codec, layout, kept
) -> None:
    source = write(tmp_path / f"in{suffix}", {"codec": codec, "layout": layout})
    report = segment_video(segmenter, source, tmp_path / "out.mp4")
    _, _, made, _, heard = listen(tmp_path / "out.mp4")
    assert made == kept and report.sound_changes == ()
    for channel, tone in enumerate(heard):
        if channel != 3 or len(heard) != 6:  # of the bass, encoders keep the bass
            assert tone == pytest.approx(300 + 150 * channel, abs=5)


@pytest.mark.parametrize(("layout", "kept"), [("7.1", "5.1"), ("quad", "stereo")])
def test_channels_that_are_given_up_are_said(tmp_path, segmenter, layout, kept) -> None:
    source = write(tmp_path / "in.mov", {"codec": PCM, "layout": layout})
    report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert listen(tmp_path / "out.mp4")[2] == kept
    assert report.sound_changes == (f"sound mixed down from {layout} to {kept}",)
    assert f"sound mixed down from {layout} to {kept}" in note(report)


@pytest.mark.parametrize("codecs", [("aac", "ac3"), (PCM, "vorbis")])
def test_streams_keep_their_order_languages_and_titles(tmp_path, segmenter, codecs) -> None:
    tags = [{"language": "deu", "title": "Ton"}, {"language": "fra", "title": "Commentaire"}]
    rates = (48000, 48000 if codecs[1] == "ac3" else 44100)
    sounds = [
        {"codec": codec, "tags": tag, "rate": rate, "options": {"strict": "-2"}}
        for codec, tag, rate in zip(codecs, tags, rates, strict=True)
    ]
    source = write(tmp_path / "in.mkv", *sounds)
    assert segment_video(segmenter, source, tmp_path / "out.mp4").audio_streams == 2
    segment_video(segmenter, tmp_path / "out.mp4", tmp_path / "again.mp4")
    for path in (tmp_path / "out.mp4", tmp_path / "again.mp4"):
        with av.open(str(path)) as container:
            found = [stream.metadata for stream in container.streams.audio]
            assert [stream.rate for stream in container.streams.audio] == list(rates)
        assert [each["language"] for each in found] == ["deu", "fra"]
        assert [each.get("title") or each.get("name") for each in found] == ["Ton", "Commentaire"]


def test_damaged_sound_is_left_out_and_counted(tmp_path, segmenter) -> None:
    vorbis = {"codec": "vorbis", "rate": 44100, "options": {"strict": "-2"}}
    source = write(tmp_path / "in.mkv", vorbis)
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for packet in packets[60:63]:
        place = bytes(data).index(packet)
        data[place : place + len(packet)] = b"\xff" * len(packet)
    source.write_bytes(bytes(data))
    report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert report.sound_changes == ("3 packets of sound could not be used",)
    assert listen(tmp_path / "out.mp4")[3] == pytest.approx(1, abs=0.1)


def test_sound_that_goes_back_is_left_out_and_counted(tmp_path, segmenter, monkeypatch) -> None:
    from serve.media.video.reader import VideoReader

    source = write(tmp_path / "in.mkv", {"codec": "aac"})
    original = VideoReader._take_audio
    seen = []

    def jump(self, packet):
        for taken in original(self, packet):
            seen.append(taken)
            if len(seen) == 20:
                taken.dts = taken.pts = 0
            yield taken

    monkeypatch.setattr(VideoReader, "_take_audio", jump)
    report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert report.sound_changes == ("1 packets of sound could not be used",)


def test_a_broadcast_that_goes_from_stereo_to_surround(tmp_path, segmenter) -> None:
    """The codec's parameters change in the middle of the stream; the output's can't."""
    for name, layout in (("a", "stereo"), ("b", "mono")):
        write(tmp_path / f"{name}.ts", {"codec": "mp2", "layout": layout})
    with (
        av.open(str(tmp_path / "b.ts")) as second,
        av.open(str(tmp_path / "a.ts")) as first,
        av.open(str(tmp_path / "in.mkv"), "w") as joined,
    ):
        video = joined.add_stream_from_template(first.streams.video[0])
        audio = joined.add_stream_from_template(first.streams.audio[0])
        for container, shift in ((first, 0), (second, 90000 * SECONDS)):
            for packet in container.demux():
                if packet.dts is None:
                    continue
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = video if packet.stream.type == "video" else audio
                joined.mux(packet)
    report = segment_video(segmenter, tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert report.sound_changes == ()
    with av.open(str(tmp_path / "out.mp4")) as container:
        heard = [float(f.pts * f.time_base) for f in container.decode(audio=0)]
    assert heard[-1] == pytest.approx(2 * SECONDS, abs=0.3) and len(heard) > 180


CODECS = {
    "h264": ("libx264", {"bf": "0"}),
    "h264 with B-frames": ("libx264", {"bf": "2", "x264-params": "b-adapt=0"}),
    "h264 with a pyramid": ("libx264", {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=normal", "g": "12"}),
    "h264 with open groups": ("libx264", {"bf": "2", "x264-params": "open-gop=1:keyint=10:b-adapt=0"}),
    "mpeg4": ("mpeg4", {"bf": "0"}),
    "mpeg4 with B-frames": ("mpeg4", {"bf": "2", "g": "10"}),
    "mpeg2 with B-frames": ("mpeg2video", {"bf": "2", "g": "10"}),
}


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize(("count", "start"), [(2, 0), (40, 0), (40, 1)])
def test_frames_of_an_avi_have_even_times_from_zero(tmp_path, kind, count, start) -> None:
    """Whatever the order in which they are decoded; and so they stay with the sound."""
    from serve.media.video.reader import Frame, VideoReader
    from serve.media.video.source import Selection

    codec, options = CODECS[kind]
    with av.open(str(tmp_path / "in.avi"), "w") as container:
        stream = container.add_stream(codec, rate=24, options=options)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "yuv420p"
        stream.codec_context.bit_rate = 800_000
        for number in range(count):
            grey = np.full((72, 96, 3), 6 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    with VideoReader(tmp_path / "in.avi", Selection(start=Fraction(start))) as reader:
        frames = [
            (item.pts * reader.time_base, round(item.pixels.mean() / 6))
            for item in reader.items()
            if isinstance(item, Frame)
        ]
    assert frames == [(Fraction(n, 24), n + 24 * start) for n in range(count - 24 * start)]

"""A loopback RTSP server for tests; runs under the system's Python, which has GStreamer's bindings.

`rtsp_server.py CLIP.h264 FPS [PORT]` serves the clip, looped without a seam, at rtsp://127.0.0.1:PORT/cam and prints
`ready PORT` once it listens. With `--check` it only says whether all that it needs is installed.
"""

import sys

NEEDED = ("filesrc", "h264parse", "appsink", "appsrc", "rtph264pay")
ACCESS_UNITS = "video/x-h264,stream-format=byte-stream,alignment=au"


def main(arguments: list[str]) -> int:
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtspServer
    except (ImportError, ValueError) as exc:
        print(f"missing: {exc}")
        return 1
    Gst.init(None)
    absent = [name for name in NEEDED if Gst.ElementFactory.find(name) is None]
    if absent:
        print(f"missing: GStreamer elements {', '.join(absent)}")
        return 1
    if arguments == ["--check"]:
        return 0
    clip, fps = arguments[0], int(arguments[1])
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments[2] if len(arguments) > 2 else "0")
    factory = GstRtspServer.RTSPMediaFactory()
    units = access_units(Gst, clip)
    frame_ns = Gst.SECOND // fps
    factory.set_shared(True)
    factory.set_launch(
        f"( appsrc name=clip is-live=true format=time max-buffers=2 caps={ACCESS_UNITS},framerate={fps}/1 ! "
        "h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )

    def configure(_factory: object, media: object) -> None:
        source = media.get_element().get_child_by_name("clip")
        sent = 0

        def push(appsrc: object, _bytes: int) -> None:
            nonlocal sent
            buffer = Gst.Buffer.new_wrapped(units[sent % len(units)])
            buffer.pts = buffer.dts = sent * frame_ns
            buffer.duration = frame_ns
            sent += 1
            appsrc.emit("push-buffer", buffer)

        source.connect("need-data", push)

    factory.connect("media-configure", configure)
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        print("missing: can't listen")
        return 1
    print(f"ready {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()
    return 0


def access_units(Gst: object, clip: str) -> list[bytes]:
    """The clip's coded pictures, each with its parameter sets."""
    pipeline = Gst.parse_launch(
        f'filesrc location="{clip}" ! h264parse ! {ACCESS_UNITS} ! appsink name=units sync=false max-buffers=0'
    )
    sink = pipeline.get_by_name("units")
    pipeline.set_state(Gst.State.PLAYING)
    units = []
    while (sample := sink.emit("pull-sample")) is not None:
        buffer = sample.get_buffer()
        units.append(buffer.extract_dup(0, buffer.get_size()))
    pipeline.set_state(Gst.State.NULL)
    return units


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

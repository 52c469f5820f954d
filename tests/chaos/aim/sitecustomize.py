"""Stop a process at the moment that CHAOS_AIM names; only processes that the tests start see this.

``replace:measurements:2:after`` stops after the second call of ``os.replace`` that puts something
into a folder ``measurements``, having made the file that CHAOS_MARK names.
"""

import itertools
import os
import signal
from pathlib import Path

if aim := os.environ.get("CHAOS_AIM"):
    call, folder, number, moment = aim.split(":")
    original, met = getattr(os, call), itertools.count(1)

    def stop():
        try:
            os.close(os.open(os.environ["CHAOS_MARK"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:  # another process was first
            return
        os.kill(os.getpid(), signal.SIGSTOP)

    def stopping(*places, **options):
        what = f"/proc/self/fd/{places[0]}" if call == "fsync" else places[-1]
        inside = Path(os.path.realpath(what)).parent.name.endswith(folder)
        hit = inside and next(met) == int(number)
        if hit and moment == "before":
            stop()
        result = original(*places, **options)
        if hit and moment == "after":
            stop()
        return result

    setattr(os, call, stopping)

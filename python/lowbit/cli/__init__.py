# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The `lowbit` command: what it accepts, and what its exit codes mean.

0 done; 1 a gate failed; 2 usage, configuration or bad input; 3 unsupported; 4 out of memory or
disk; 5 internal error; 6 a device or tool is not available.
"""
from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence

from ..errors import Error
from .arguments import Parser, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Results go to stdout, all else to stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((a for a in arguments if not a.startswith("-")), "")
    name = f"lowbit {verb}" if verb in Parser.VERBS else "lowbit"
    try:
        from . import verbs

        options = Parser().parse(arguments)
        code = getattr(verbs, options.verb)(options)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _fail(name, error, 2)
    except Error as error:
        return _fail(name, error, error.code)
    except MemoryError as error:
        return _fail(name, f"out of memory {error}".rstrip(), 4)
    except BrokenPipeError:  # the reader of stdout went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
            return _fail(name, error, 4)
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.EROFS, errno.EPERM, errno.ENAMETOOLONG):
            return _fail(name, error, 2)
        return _crash(name, error, arguments)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return _crash(name, error, arguments)


def _fail(name: str, error: object, code: int) -> int:
    print(f"{name}: error: {error}", file=sys.stderr)
    return code


def _crash(name: str, error: Exception, arguments: list[str]) -> int:
    """Writes what is needed to reproduce an error of ours, and says where."""
    from .. import __version__

    text = "\n".join([
        f"lowbit {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"folder:  {os.getcwd()}", f"command: lowbit {shlex.join(arguments)}", "", "".join(traceback.format_exception(error))])
    try:
        handle, path = tempfile.mkstemp(prefix="lowbit-crash-", suffix=".txt")
        with os.fdopen(handle, "w") as file:
            file.write(text)
        where = f"please report it with {path}"
    except OSError:
        print(text, file=sys.stderr)
        where = "please report the lines above"
    return _fail(name, f"internal: {type(error).__name__}: {' '.join(str(error).split())[:300]}; {where}", 5)

"""Compiles one broken model after the other; prints a line for each with its exit status and what was said."""
import os
import shutil
import subprocess
import sys

import models

shutil.rmtree(sys.argv[1], ignore_errors=True)
for name in ("undefined cycle twice subgraph branches capture condition nested sequence string opset future size huge negative attribute inputs missing "
             "recursion random empty truncated").split():
    models.main(name, sys.argv[1])
    path, bundle = (os.path.join(sys.argv[1], name + end) for end in (".onnx", ".lowbit"))
    ran = subprocess.run(["lowbit-compile", path, "-o", bundle, "--recipe=fp32"], capture_output=True, text=True)
    print(f"{name}: exit {ran.returncode}: {ran.stderr.strip()}")
    if os.path.exists(bundle):
        print("left output behind")

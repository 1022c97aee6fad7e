#!/usr/bin/env python3
"""Makes the base images that the compose test needs, from what is installed on this machine, without an image registry.

    images.py WORK_DIRECTORY

imports three images into the daemon of DOCKER_HOST:

    meshtrace-test/python   the machine's Python with the research agent's requirements already in place
    meshtrace-test/node     the machine's Node.js and npm, npm's cache filled from the weather agent's lock file
    meshtrace-test/sink     the machine's Python with the OTLP messages, for the receiver that stands in for the collector

The example's own Dockerfiles then run on top of them unchanged: `pip install` finds its requirements satisfied and `npm ci`
finds every package in its cache, so that a build needs no network.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLE = HERE.parent.parent / "examples" / "compose"
SINK_REQUIREMENTS = HERE / "sink-requirements.txt"
PATH = "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"


def run(*command, **more):
    """Run a command; show what it said only when it failed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, **more)
    if done.returncode != 0:
        sys.exit(f"images.py: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


class Root:
    """A root file system under construction."""

    def __init__(self, path):
        self.path = path
        shutil.rmtree(path, ignore_errors=True)
        for folder in ("bin", "etc", "root", "usr/bin", "usr/local/bin", "usr/lib"):
            (path / folder).mkdir(parents=True)
        (path / "tmp").mkdir(mode=0o1777)
        (path / "tmp").chmod(0o1777)
        (path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nagent:x:1000:1000::/tmp:/bin/sh\n")
        (path / "etc/group").write_text("root:x:0:\nagent:x:1000:\n")
        # `RUN` in a Dockerfile needs a shell, and npm's launcher needs env.
        self.program("/bin/sh", "/bin/sh")
        self.program("/usr/bin/env", "/usr/bin/env")

    def at(self, path):
        """Where an absolute path of the image lies on this machine."""
        return self.path / str(path).lstrip("/")

    def program(self, source, target):
        """Copy an executable and the shared libraries that it loads."""
        self.at(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(os.path.realpath(source), self.at(target))
        self.libraries_of(source)

    def libraries_of(self, binary):
        """Copy each shared library of a binary to the path under which its loader looks for it."""
        listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, timeout=60)
        for line in listed.stdout.splitlines():
            paths = [word for word in line.split() if word.startswith("/")]
            if paths and not self.at(paths[0]).exists():
                self.at(paths[0]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(os.path.realpath(paths[0]), self.at(paths[0]))

    def tree(self, path, *leave_out):
        """Copy a directory to the same path, and the libraries of the extension modules in it."""
        shutil.copytree(path, self.at(path), symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*leave_out))
        self.extensions_of(self.at(path))

    def extensions_of(self, folder):
        for module in folder.rglob("*.so*"):
            self.libraries_of(module)

    def import_as(self, image, *importer, **more):
        """Hand the tree to a daemon or a store as an image of one layer."""
        archive = self.path.with_suffix(".tar")
        with tarfile.open(archive, "w") as tar:
            tar.add(self.path, arcname=".", filter=owned_by_root)
        run(*(importer or ("docker", "import")), "--change", f"ENV PATH={PATH}", archive, image, **more)
        archive.unlink()
        shutil.rmtree(self.path)
        print(f"images.py: {image}", file=sys.stderr)


def owned_by_root(member):
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def interpreter_of(root):
    """Copy the machine's Python and its library. Returns the interpreter's path."""
    base = pathlib.Path(sys.base_prefix)
    interpreter = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    root.program(interpreter, interpreter)
    root.tree(sysconfig.get_path("stdlib", vars={"installed_base": str(base), "base": str(base)}),
              "test", "tests", "idlelib", "tkinter", "ensurepip", "site-packages", "dist-packages", "__pycache__", "*.a", "config-*")
    return interpreter


def python_image(work, image, requirements):
    root = Root(work / image.replace("/", "-"))
    interpreter = interpreter_of(root)
    venv = root.at("/opt/venv")
    run(interpreter, "-m", "venv", "--copies", venv)
    run(venv / "bin/python", "-m", "pip", "install", "--quiet", "-r", requirements)
    # The launchers that pip wrote name this machine's path.
    (venv / "bin/pip").write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    for leftover in venv.rglob("__pycache__"):
        shutil.rmtree(leftover)
    root.extensions_of(venv)
    root.import_as(image)


def node_image(work, image, agent):
    root = Root(work / image.replace("/", "-"))
    node = run("node", "-p", "process.execPath").strip()
    root.program(node, "/usr/local/bin/node")
    npm = pathlib.Path(run("npm", "root", "--global").strip()) / "npm"
    shutil.copytree(npm, root.at("/usr/local/lib/node_modules/npm"), symlinks=True)
    root.at("/usr/local/bin/npm").symlink_to("/usr/local/lib/node_modules/npm/bin/npm-cli.js")
    # Installing once into a throw-away folder fills the cache that the image carries.
    scratch = work / "npm"
    scratch.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(agent / name, scratch)
    run("npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--cache", root.at("/root/.npm"), cwd=scratch)
    shutil.rmtree(scratch)
    root.import_as(image)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    work = pathlib.Path(sys.argv[1]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    python_image(work, "meshtrace-test/python", EXAMPLE / "research-agent" / "requirements.txt")
    python_image(work, "meshtrace-test/sink", SINK_REQUIREMENTS)
    node_image(work, "meshtrace-test/node", EXAMPLE / "weather-agent")


if __name__ == "__main__":
    main()

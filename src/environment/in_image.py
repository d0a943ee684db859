# Makes an environment with the interpreter of an image: runs in a container of it, as the caller's user.
# Arguments: the folder of the environment, the version asked for or "", the file of requirements or "", a file of
# constraints or "". What went wrong by the image's fault is written into `refused` of the folder.
import importlib.util
import os
import subprocess
import sys

root, wanted, requirements, constraints = sys.argv[1:5]


def refuse(why):
    with open(os.path.join(root, "refused"), "w") as file:
        file.write(why)
    sys.exit(90)


def run(arguments, **more):
    code = subprocess.run(arguments, stdin=subprocess.DEVNULL, **more).returncode
    if code != 0:
        sys.exit(91)


version = sys.version.split()[0]
if sys.version_info[0] != 3:
    refuse("version " + version)
if wanted and version != wanted and not version.startswith(wanted + "."):
    refuse("version " + version)
if not requirements:
    sys.exit(0)


def has(module):
    return importlib.util.find_spec(module) is not None


if not has("venv"):
    refuse("venv")
# The image's pip sees the environment as its own when the environment's interpreter runs it.
arguments = [sys.executable, "-I", "-m", "venv", "--system-site-packages"]
if has("pip"):
    arguments.append("--without-pip")
elif not has("ensurepip"):
    refuse("pip")
run(arguments + [root])
python = os.path.join(root, "bin", "python")
if sys.prefix != sys.base_prefix:
    # The image's interpreter is itself one of an environment, whose packages belong to the image.
    import site

    names = "python%d.%d" % sys.version_info[:2]
    inner = os.path.join(root, "lib", names, "site-packages")
    with open(os.path.join(inner, "image.pth"), "w") as file:
        file.write("\n".join(site.getsitepackages()) + "\n")
arguments = [python, "-I", "-m", "pip", "install", "--no-color", "--progress-bar", "off"]
arguments += ["-r", requirements]
if constraints:
    arguments += ["-c", constraints]
run(arguments)
with open(os.path.join(root, "installed"), "w") as file:
    run([python, "-I", "-m", "pip", "freeze", "--local"], stdout=file)

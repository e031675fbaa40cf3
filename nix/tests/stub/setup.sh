# The part of nixpkgs' stdenv that the shipped derivations use.
shopt -s nullglob

runHook() {
  local hook=${!1-}
  if [ -n "$hook" ]; then eval "$hook"; fi
}

# Every phase is the derivation's own text or the default below.
runPhase() {
  local phaseText=${!1-}
  if [ -n "$phaseText" ]; then eval "$phaseText"; else "default_$1"; fi
}

default_unpackPhase() {
  cp -r "$src" source
  chmod -R u+w source
  cd source
}

default_patchPhase() {
  runHook prePatch
  local file
  for file in ${patches-}; do
    patch ${patchFlags:--p1} < "$file"
  done
  runHook postPatch
}

default_installPhase() { :; }

default_installCheckPhase() { :; }

makeWrapper() {
  local program=$1 wrapper=$2 flags=""
  shift 2
  {
    echo "#!/bin/bash"
    while [ $# -gt 0 ]; do
      case $1 in
        --prefix)
          # Like nixpkgs': what is prefixed with nothing stays.
          if [ -n "$4" ]; then echo "export $2=\"$4\${$2:+$3\$$2}\""; fi
          shift 4
          ;;
        --set)
          echo "export $2=\"$3\""
          shift 3
          ;;
        --add-flags)
          flags="$flags $2"
          shift 2
          ;;
        *)
          echo "makeWrapper: unknown option $1" >&2
          exit 1
          ;;
      esac
    done
    echo "exec $program$flags \"\$@\""
  } > "$wrapper"
  chmod +x "$wrapper"
}

for input in ${nativeBuildInputs-}; do
  PATH=$input/bin:$PATH
done
export PATH
export HOME=$TMPDIR

mkdir build
cd build
if [ -z "${dontUnpack-}" ]; then
  runPhase unpackPhase
  runPhase patchPhase
fi
runPhase installPhase
if [ -n "${doInstallCheck-}" ]; then runPhase installCheckPhase; fi

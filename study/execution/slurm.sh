#!/bin/bash
# Written by `logit-bias submit --slurm`; submit it again with `sbatch`, as often as the study needs.
#
# SLURM sends USR1 to this script before the time limit: the cohorts in training are then saved, and
# the job is queued again. Jobs of one name run one after the other (singleton).
#SBATCH --job-name=${job_name}
#SBATCH --dependency=singleton
#SBATCH --signal=B:USR1@${warning_s}
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
${directives}
set -u -m  # -m: a background process does not ignore SIGINT
cd ${folder} || exit 1  # what the study file names by a relative path is the same from any folder

export PATH=${bin}:$$PATH
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
RAY_AUTH_TOKEN=$$(python -c 'import secrets; print(secrets.token_hex(32))')  # for this start alone
export RAY_AUTH_TOKEN
# Ray's ports for Prometheus ask for no token: they stay closed (a port of -1 cannot be opened).
export RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1
unset RAY_ADDRESS RAY_AUTH_TOKEN_PATH
# The nodes can be shared with other jobs: each has its own folder and ports that are free. Ray opens
# its folder to everybody, so it lies in one that is closed.
export scratch=/tmp/logit-bias-$$SLURM_JOB_ID
export TMPDIR=$$scratch
export ray_options="--temp-dir=$$scratch/ray ${gpu_option} --object-store-memory=${object_store_bytes}
  --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0
  --disable-usage-stats --block"
worker='rm -rf "$$scratch"; mkdir -m 700 "$$scratch" || exit 1
  ray start --address="$$address" --num-cpus="$$SLURM_CPUS_ON_NODE" $$ray_options & ray=$$!
  trap "kill $$ray" TERM
  while kill -0 $$ray 2> /dev/null; do wait $$ray; done
  rm -rf "$$scratch"'

requeue= driver= ray=
trap 'requeue=yes; echo "the time is nearly over: saving"; test -z "$$driver" || kill -INT "$$driver"' USR1
trap 'echo "told to end"' TERM  # the driver gets the signal too
end_ray() {
  trap '' USR1 TERM
  for process in $$ray; do kill -TERM "$$process" 2>/dev/null; done
  for process in $$ray; do wait "$$process"; done
  rm -rf "$$scratch"
}
fail() {
  cat "$$scratch"/*.log
  end_ray
  exit 1
}

echo "$$(date -Is) job $$SLURM_JOB_ID, start $$((1 + $${SLURM_RESTART_COUNT:-0})), on $$SLURM_JOB_NODELIST"
rm -rf "$$scratch"; mkdir -m 700 "$$scratch" || exit 1
# Ray's client server cannot be left out, and its usual port may be another job's.
free='import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
ray start --head --port=0 --ray-client-server-port="$$(python -c "$$free")" \
  --include-dashboard=false --num-cpus="$$SLURM_CPUS_ON_NODE" $$ray_options > "$$scratch/head.log" 2>&1 &
ray=$$!
for _ in {1..120}; do
  test -s "$$scratch/ray/ray_current_cluster" && break
  kill -0 "$$ray" 2>/dev/null || break
  sleep 1
done
address=$$(cat "$$scratch/ray/ray_current_cluster" 2>/dev/null)
export address
test -n "$$address" || fail
if test "$$SLURM_JOB_NUM_NODES" -gt 1; then
  srun --nodes=$$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$$((SLURM_JOB_NUM_NODES - 1)) \
    --exclude="$$SLURMD_NODENAME" --no-kill --kill-on-bad-exit=0 --wait=0 \
    bash -c "$$worker" > "$$scratch/workers.log" 2>&1 &
  ray="$$ray $$!"
fi
python - "$$address" "$$SLURM_JOB_NUM_NODES" <<'END' || fail
import logging, sys, time
import ray
ray.init(sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
end = time.monotonic() + 120
while (nodes := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[2]):
    if time.monotonic() > end:
        sys.exit(f"only {nodes} of {sys.argv[2]} nodes joined Ray")
    time.sleep(0.5)
END
code=130
if test -z "$$requeue"; then
  ${run} --address "$$address" &
  driver=$$!
  wait "$$driver"
  code=$$?
  while kill -0 "$$driver" 2>/dev/null; do  # a signal has ended the wait, not the driver
    wait "$$driver"
    code=$$?
  done
fi
end_ray
if test -n "$$requeue" && test "$$code" -ne 0; then
  scontrol requeue "$$SLURM_JOB_ID" || echo "not queued again; sbatch this script again to resume"
fi
exit "$$code"

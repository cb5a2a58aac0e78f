// @ts-check
/**
 * What the server tells, as far as the page reads it; the whole of it is in /openapi.json.
 *
 * @typedef {Record<string, string>} Missing why a reading could not be had, by its name
 * @typedef {"normal" | "high" | "critical" | "extreme"} Level
 *
 * @typedef {object} Host
 * @property {number | null} memory_total_bytes
 * @property {number | null} memory_available_bytes
 * @property {number | null} swap_used_bytes
 * @property {Level} pressure
 * @property {number | null} psi_full_avg10
 * @property {Missing} missing
 *
 * @typedef {object} Gpu
 * @property {number} index
 * @property {string} uuid
 * @property {string} name
 * @property {number | null} memory_total_bytes
 * @property {number | null} memory_used_bytes
 * @property {Level} pressure
 * @property {number | null} temperature_c
 * @property {number | null} power_w
 * @property {number | null} power_limit_w
 * @property {number | null} utilization_percent
 * @property {string} state
 * @property {boolean} unified
 * @property {string | null} quarantine
 * @property {number} read_age_s
 * @property {Missing} missing
 * @property {number} [xids]
 * @property {{code: number, text: string, at: string} | null} [last_xid]
 * @property {string[]} [throttle]
 *
 * @typedef {object} Progress
 * @property {string} job
 * @property {"queued" | "processing" | "completed" | "failed"} state
 * @property {number | null} position
 * @property {number | null} batch_size
 * @property {number} done
 * @property {number | null} total
 * @property {number | null} throughput
 * @property {number | null} eta_s
 *
 * @typedef {object} Reported
 * @property {Level | null} level
 * @property {{degradation_level: number, recoveries: number} | null} memory
 * @property {{clear_cache: boolean, batch_size: number | null, cpu_fallback: boolean} | null} advice
 * @property {Progress | null} progress
 * @property {{throughput: number | null, success_rate: number | null} | null} batches
 * @property {boolean} draining
 * @property {boolean} drained
 * @property {number} report_age_s
 *
 * @typedef {object} Worker
 * @property {string} name
 * @property {string} phase
 * @property {number | null} pid
 * @property {number | null} age_s
 * @property {number | null} max_age_s
 * @property {number | null} restart_in_s
 * @property {number | null} memory_bytes
 * @property {number | null} memory_cap_bytes
 * @property {number | null} vram_bytes
 * @property {number | null} vram_cap_bytes
 * @property {string[]} gpus
 * @property {number} restarts
 * @property {{cause: string, reason: string, at: string} | null} last_restart
 * @property {number} rung
 * @property {number} oom_events
 * @property {number | null} forecast_s
 * @property {string | null} held
 * @property {string | null} waits_for
 * @property {Reported | null} reported
 * @property {Missing} missing
 *
 * @typedef {object} Web
 * @property {string} read_at
 * @property {number} stale_s
 * @property {string} daemon `ok`, or `away: why`
 *
 * @typedef {object} Status
 * @property {string} version
 * @property {string} launcher
 * @property {string} taken_at
 * @property {number} uptime_s
 * @property {Host} host
 * @property {Gpu[]} gpus
 * @property {Worker[]} workers
 * @property {string} config
 * @property {string | null} config_refused
 * @property {string | null} gpu_missing
 * @property {boolean} dry_run
 * @property {string} history
 * @property {Web} [web]
 *
 * @typedef {object} Alert
 * @property {string} name
 * @property {"info" | "warning" | "critical"} severity
 * @property {"pending" | "firing" | "resolved"} state
 * @property {string} summary
 * @property {string | null} worker
 * @property {string | null} gpu
 * @property {number} since_wall_s
 * @property {number | null} resolved_wall_s
 * @property {string | null} runbook
 *
 * @typedef {object} Told
 * @property {number} seq
 * @property {number} wall_s
 * @property {string} level
 * @property {string} event
 * @property {string} reason
 * @property {string | null} worker
 * @property {string | null} gpu
 * @property {string | null} cause
 * @property {string | null} incident
 * @property {Progress | null} job
 *
 * @typedef {object} Incident
 * @property {string} id
 * @property {string | null} worker
 * @property {string | null} gpu
 * @property {string | null} cause
 * @property {string} reason
 * @property {number} opened_wall_s
 * @property {number | null} closed_wall_s
 * @property {string | null} outcome
 * @property {Record<string, unknown>} fields
 *
 * @typedef {object} Entry
 * @property {number} wall_s
 * @property {string} level
 * @property {string} event
 * @property {string} reason
 * @property {Record<string, unknown>} fields
 *
 * @typedef {{wall_s: number, row: Record<string, any>}} Sample
 * @typedef {{incident: Incident, timeline: Entry[], samples: Sample[], log_tail: string[]}} Detail
 *
 * @typedef {object} Course
 * @property {"worker" | "gpu" | "host"} kind
 * @property {string} name
 * @property {number[]} at_s
 * @property {(number | null)[]} memory_bytes
 * @property {(number | null)[]} vram_bytes
 *
 * @typedef {{token_needed: boolean, signed_in: boolean, allow_actions: boolean}} Session
 */

export {};

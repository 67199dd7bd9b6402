/**
 * Owns the shapes of what the gateway sends. Names and units are those of control.proto.
 *
 * @typedef {"alive" | "degraded" | "gone"} Health
 * @typedef {"split" | "frame" | "resumed" | "local" | "tracked" | "shed" | "expired"} Outcome
 *
 * @typedef {object} Link
 * @property {number} bandwidth_bps
 * @property {number} low_bps 80 % interval; both 0: unknown
 * @property {number} high_bps
 * @property {number} base_ms
 * @property {number} backlog_bytes
 *
 * @typedef {object} Edge
 * @property {string} name
 * @property {Health} health
 * @property {string} why
 * @property {number} silent_ms
 * @property {string} run_id
 * @property {string} version
 * @property {string} model
 * @property {string} policy
 * @property {string} source
 * @property {number} deadline_ms
 * @property {number} uplink_budget_bps 0: none
 * @property {number} run_s
 * @property {number} captured
 * @property {Record<string, number>} settled
 * @property {number} in_flight
 * @property {number} fps
 * @property {number} hit_rate
 * @property {number} hit_rate_5s
 * @property {[number, number, number]} latency_ms p50, p95, p99 of five seconds
 * @property {Record<string, number>} decisions of five seconds, by place
 * @property {Link} link
 * @property {number} uplink_bps
 * @property {string} breaker
 * @property {number} gamma_edge
 * @property {number} gamma_cloud
 * @property {boolean} finished
 *
 * @typedef {object} Worker
 * @property {string} name
 * @property {Health} health
 * @property {string} why
 * @property {number} silent_ms
 * @property {number} wait_ms
 * @property {number} queue_depth
 * @property {boolean} draining
 * @property {{model: string, cuts: number}[]} models
 *
 * @typedef {object} FleetEvent
 * @property {number} number
 * @property {number} ago_ms
 * @property {string} kind
 * @property {string} member
 * @property {string} detail
 *
 * @typedef {object} Fleet
 * @property {Edge[]} edges
 * @property {number} edges_found
 * @property {Worker[]} workers
 * @property {Record<Health, number>} edge_health
 * @property {Record<Health, number>} worker_health
 * @property {{decisions: Record<string, number>, fps: number, uplink_bps: number, hit_rate: number | null}} sums
 * @property {FleetEvent[]} events newest first
 *
 * @typedef {object} Frame
 * @property {string} id
 * @property {number} seq
 * @property {Outcome} outcome
 * @property {string} point
 * @property {number} predicted_ms
 * @property {number | null} latency_ms
 * @property {boolean} hit
 * @property {number} deadline_ms
 * @property {number} bytes
 * @property {string} worker
 * @property {number} captured_ms edge's monotonic clock, since its run began
 * @property {Link} link
 *
 * @typedef {object} Preview
 * @property {string} frame
 * @property {string} point
 * @property {number | null} latency_ms
 * @property {boolean} hit
 * @property {[number, number, number, number, number, string][]} boxes
 *
 * @typedef {{point: string, predicted_ms: number, p_hit: number, utility: number}} Forecast
 * @typedef {{chosen: Forecast, reason: string, runners_up: Forecast[]}} Decided
 * @typedef {{now: Decided, then: Decided, observed_ms_ago: number}} WhatIf
 *
 * @typedef {object} Span
 * @property {string} name
 * @property {string} service
 * @property {string} instance
 * @property {number} depth
 * @property {number} start_ms
 * @property {number} duration_ms
 * @property {number} moved_ms
 * @property {string} error
 * @property {Record<string, string>} attributes
 *
 * @typedef {object} Story
 * @property {Frame} frame
 * @property {string[]} words
 * @property {string} end
 * @property {Forecast} chosen
 * @property {Forecast[]} runners_up
 * @property {Record<string, number>} times_ms
 * @property {string} trace_id
 * @property {Span[]} spans
 *
 * @typedef {object} Point
 * @property {string} name
 * @property {string} place
 * @property {string} cut
 * @property {string} codec
 * @property {string} level
 * @property {number} edge_ms
 * @property {number} cloud_ms
 * @property {number} bytes
 * @property {number} fidelity
 *
 * @typedef {object} Policy
 * @property {string} policy
 * @property {number} deadline_ms
 * @property {number} uplink_budget_bps
 * @property {string[]} known_policies
 * @property {{unix_ms: number, actor: string, before: string, after: string}[]} changes
 *
 * @typedef {{tenant: string, actor: string, csrf: string, lab: boolean, can_log_out: boolean}} Session
 */
export {};

/* Sums of one decision over plain numbers; knows nothing of Python. See `pure.py` for what they mean. */
#ifndef SPLITMESH_POLICY_ARITHMETIC_H
#define SPLITMESH_POLICY_ARITHMETIC_H

#include <math.h>
#include <stddef.h>

enum { MOST_STEPS = 64 };
#define LEAST_MS 1e-3

typedef struct {
    double budget_ms, prior_weight, prior_steepness, steepness, faded, all_in, least, most;
    const double *odds, *weighted;
    size_t count;
} Chances;

/* P(T <= budget) of a prediction. */
static double chance(const Chances *c, double predicted_ms) {
    if (c->budget_ms < LEAST_MS) return 0.0;
    double ratio = (predicted_ms > LEAST_MS ? predicted_ms : LEAST_MS) / c->budget_ms;
    double weight = c->prior_weight / (1 + pow(ratio, c->prior_steepness)), known = c->all_in + c->prior_weight;
    if (ratio < c->least) {
        weight += c->all_in;
    } else if (ratio <= c->most) {
        double raised = pow(ratio, c->steepness), sum = 0.0;
        for (size_t i = 0; i < c->count; i++) sum += c->weighted[i] / (raised + c->odds[i]);
        weight += c->faded * sum;
        if (weight > known) weight = known;
    }
    return weight / known;
}

typedef struct {
    double period, device, without, values[MOST_STEPS], idle[MOST_STEPS], weights[MOST_STEPS];
    size_t steps, frames;
} Course;

/* What frames behind get in all, if so many steps are queued when the first of them comes. */
static double run(const Course *c, double backlog) {
    double total = 0.0, last = (double)(c->steps - 1), with_cut = c->device - c->period;
    for (size_t i = 0; i < c->frames; i++) {
        if (backlog <= 0) return total + c->idle[i];
        double cut = c->values[c->steps - 1];
        if (backlog < last) {
            size_t low = (size_t)backlog;
            cut = c->values[low] + (backlog - (double)low) * (c->values[low + 1] - c->values[low]);
        }
        total += c->weights[i] * (cut > c->without ? cut : c->without);
        backlog += cut > c->without ? with_cut : -c->period;
    }
    return total;
}

/* Sums of weight * F1 and of weight over audits of four numbers: log weight, u, v, F1. */
static void sum_around(const double *audit, size_t count, double x, double y, double *seen, double *known) {
    for (size_t i = 0; i < count; i++, audit += 4) {
        double across = x - audit[1], along = y - audit[2];
        double weight = exp(audit[0] - 0.5 * (across * across + along * along));
        *seen += weight * audit[3];
        *known += weight;
    }
}

#endif

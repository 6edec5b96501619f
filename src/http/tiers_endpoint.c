/* See tiers_endpoint.h. Each asks the engine, which answers from memory, and makes JSON of it.
 * Where memory is short a field is left out, or the answer is 503. */
#include "http/tiers_endpoint.h"

#include "http/cost_query.h"
#include "http/respond.h"

#include "tiers/cost.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Digits of a share or a price that mean something. */
#define DIGITS_SENT 6

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* Consumes the object. */
static void respond_object(h2o_req_t *req, struct loop *loop, json_t *object)
{
    char *text = object != NULL
                     ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(DIGITS_SENT))
                     : NULL;

    json_decref(object);
    if (text == NULL) {
        respond_unavailable(req, loop, "out_of_memory", "out of memory", OUTCOME_NONE);
        return;
    }
    respond_json(req, loop, 200, text, strlen(text));
    free(text);
}

/* ---- /tiers ---- */

static json_t *tier_json(const struct tiers_placement_tier *tier)
{
    json_t *object = json_object();

    json_object_set_new(object, "bytes", integer(tier->bytes));
    if (tier->budget_bytes > 0)
        json_object_set_new(object, "budget_bytes", integer(tier->budget_bytes));
    json_object_set_new(object, "keys", integer(tier->keys));
    return object;
}

static json_t *share(uint64_t part, uint64_t whole)
{
    return json_real(whole > 0 ? (double)part / (double)whole : 0);
}

static json_t *hits_json(const struct tiers_placement_hits *hits)
{
    uint64_t present = hits->hot + hits->warm + hits->cold;
    json_t *object = json_object();

    json_object_set_new(object, "seconds", json_real((double)hits->span_ms / 1000));
    json_object_set_new(object, "hot", integer(hits->hot));
    json_object_set_new(object, "warm", integer(hits->warm));
    json_object_set_new(object, "cold", integer(hits->cold));
    json_object_set_new(object, "absent", integer(hits->absent));
    json_object_set_new(object, "share_hot", share(hits->hot, present));
    json_object_set_new(object, "share_warm", share(hits->warm, present));
    json_object_set_new(object, "share_cold", share(hits->cold, present));
    return object;
}

static json_t *policy_json(const struct tiers_placement_policy *policy)
{
    json_t *object = json_object();

    json_object_set_new(object, "name", json_string(policy->name));
    json_object_set_new(object, "auto", json_boolean(policy->automatic));
    json_object_set_new(object, "reason", json_string(policy->reason));
    json_object_set_new(object, "predicted_best", json_string(policy->best));
    json_object_set_new(object, "predicted_gain", json_real(policy->gain));
    json_object_set_new(object, "in_use_seconds", json_real((double)policy->in_use_ms / 1000));
    json_object_set_new(object, "switches", integer(policy->switches));
    return object;
}

static json_t *placement_json(const struct tiers_placement *placement)
{
    json_t *object = json_object(), *reads = json_object(), *recent = json_array(),
           *controller = json_object();

    json_object_set_new(object, "hot", tier_json(&placement->hot));
    json_object_set_new(object, "warm", tier_json(&placement->warm));
    json_object_set_new(object, "cold", tier_json(&placement->cold));
    for (size_t i = 0; i < TIERS_PLACEMENT_WINDOWS; i++)
        json_array_append_new(recent, hits_json(&placement->windows[i]));
    json_object_set_new(reads, "total", hits_json(&placement->total));
    json_object_set_new(reads, "recent", recent);
    json_object_set_new(object, "reads", reads);
    json_object_set_new(object, "policy", policy_json(&placement->policy));
    json_object_set_new(controller, "promote_heat_min", integer(placement->promote_heat_min));
    json_object_set_new(controller, "demote_heat_max", integer(placement->demote_heat_max));
    json_object_set_new(controller, "demoting", json_boolean(placement->demoting));
    json_object_set_new(controller, "hot_has_room", json_boolean(placement->hot_has_room));
    json_object_set_new(controller, "cold_read_share_max",
                        json_real((double)placement->control.cold_read_permille_max / 1000));
    json_object_set_new(controller, "admit_heat_min", integer(placement->control.admit_heat_min));
    json_object_set_new(controller, "admit_reason", json_string(placement->control.admit_reason));
    json_object_set_new(controller, "reason", json_string(placement->control.reason));
    json_object_set_new(controller, "unchanged_seconds",
                        json_real((double)placement->control.changed_ms / 1000));
    json_object_set_new(controller, "promote_us_per_second_max",
                        integer(placement->control.promote_us_max));
    json_object_set_new(object, "controller", controller);
    return object;
}

void tiers_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct tiers_placement placement;

    tiers_placement(loop->server->options.tiers, &placement);
    respond_object(req, loop, placement_json(&placement));
}

/* ---- /tiers/curve ---- */

static json_t *point_json(const struct tiers_curve *curve, size_t i)
{
    const struct tiers_curve_point *point = &curve->points[i];
    json_t *object = json_object(), *rates = json_object();

    json_object_set_new(object, "hot_bytes", integer(point->hot_bytes));
    json_object_set_new(object, "sample_rate", json_real(point->sample_rate));
    json_object_set_new(object, "reads_in_view", integer((uint64_t)point->reads));
    for (size_t j = 0; point->reads > 0 && j < curve->n_policies; j++)
        json_object_set_new(rates, curve->policies[j].name,
                            json_real(curve->policies[j].hit_rate[i]));
    json_object_set_new(object, "hit_rate", rates);
    return object;
}

void tiers_curve_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct tiers_curve curve;
    json_t *object = json_object(), *points = json_array();

    tiers_curve(loop->server->options.tiers, &curve);
    /* Without curves there are no policies, nor points. */
    for (size_t i = 0; curve.n_policies > 0 && i < TIERS_CURVE_POINTS; i++)
        json_array_append_new(points, point_json(&curve, i));
    json_object_set_new(object, "hot_bytes_now", integer(curve.points[curve.point_now].hot_bytes));
    json_object_set_new(object, "points", points);
    json_object_set_new(object, "keys_tracked", integer(curve.keys_tracked));
    json_object_set_new(object, "samples", integer(curve.samples));
    json_object_set_new(object, "samples_dropped", integer(curve.samples_dropped));
    respond_object(req, loop, object);
}

/* ---- /tiers/cost ---- */

static json_t *media_json(const struct tiers_cost_tiers *figures)
{
    json_t *object = json_object();

    json_object_set_new(object, "memory", json_real(figures->memory));
    json_object_set_new(object, "ssd", json_real(figures->ssd));
    json_object_set_new(object, "hdd", json_real(figures->hdd));
    return object;
}

static json_t *split_json(const struct tiers_cost_input *input,
                          const struct tiers_cost_split *split)
{
    json_t *object = json_object();

    json_object_set_new(object, "meets_target", json_boolean(split->feasible));
    json_object_set_new(object, "hot_bytes", integer((uint64_t)split->hot_bytes));
    /* What the setting counts: values and index. */
    json_object_set_new(object, "warm_bytes",
                        integer((uint64_t)(split->warm_bytes + input->index_bytes)));
    json_object_set_new(object, "cold_bytes", integer((uint64_t)split->cold_bytes));
    json_object_set_new(object, "cost", json_real(split->cost));
    json_object_set_new(object, "latency_us", json_real(split->latency_us));
    json_object_set_new(object, "share_hot", json_real(split->share_hot));
    json_object_set_new(object, "share_warm", json_real(split->share_warm));
    json_object_set_new(object, "share_cold", json_real(split->share_cold));
    return object;
}

static json_t *cost_json(const struct tiers_cost_input *input, const struct tiers_cost *cost,
                         const struct tiers_cost_split *now)
{
    json_t *object = json_object(), *target = json_object(), *data = json_object();

    json_object_set_new(target, "latency_us", json_real(input->target_us));
    if (input->quantile > 0)
        json_object_set_new(target, "quantile", json_real(input->quantile));
    json_object_set_new(data, "memory_bytes", integer((uint64_t)input->memory_bytes));
    json_object_set_new(data, "value_bytes", integer((uint64_t)input->data_bytes));
    json_object_set_new(data, "index_bytes", integer((uint64_t)input->index_bytes));
    json_object_set_new(object, "target", target);
    json_object_set_new(object, "prices", media_json(&input->prices));
    json_object_set_new(object, "latencies_us", media_json(&input->latencies));
    json_object_set_new(object, "data", data);
    json_object_set_new(object, "cheapest", split_json(input, &cost->cheapest));
    json_object_set_new(object, "now", split_json(input, now));
    json_object_set_new(object, "all_in_memory_cost", json_real(cost->memory_cost));
    return object;
}

void tiers_cost_endpoint(h2o_req_t *req, struct loop *loop)
{
    const struct http_server_options *options = &loop->server->options;
    struct tiers_cost_input input = {.prices = options->tier_prices,
                                     .latencies = options->tier_latencies};
    struct tiers_cost_measured measured;
    struct tiers_cost_split now;
    struct tiers_cost cost;
    const char *error = NULL, *query = "";
    size_t query_len = 0;

    input.target_us = input.latencies.ssd;
    if (req->query_at != SIZE_MAX) {
        query = req->path.base + req->query_at + 1;
        query_len = req->path.len - req->query_at - 1;
    }
    if (!cost_query_parse(query, query_len, &input, &error)) {
        respond_error(req, loop, 400, "bad_query", error, OUTCOME_NONE);
        return;
    }
    if (tiers_cost_measure(options->tiers, &input, &measured) != 0) {
        respond_unavailable(req, loop, "no_curve",
                            "no reads were sampled yet, or the setting curve is off", OUTCOME_NONE);
        return;
    }
    if (tiers_cost(&input, &cost) != 0 ||
        tiers_cost_of(&input, measured.hot_bytes, measured.warm_bytes, &now) != 0) {
        respond_error(req, loop, 400, "bad_query",
                      "latencies must rise from memory to SSD to HDD, and quantile be below 1",
                      OUTCOME_NONE);
        return;
    }
    respond_object(req, loop, cost_json(&input, &cost, &now));
}

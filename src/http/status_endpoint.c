/* See status_endpoint.h. */
#include "http/status_endpoint.h"

#include "http/respond.h"
#include "metrics.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *hex(uint64_t value)
{
    char text[17];

    snprintf(text, sizeof text, "%016" PRIx64, value);
    return json_string(text);
}

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *tiers_json(struct tiers *tiers)
{
    struct tiers_stats stats;
    json_t *object = json_object();

    tiers_stats(tiers, &stats);
#define X(name, kind, help) json_object_set_new(object, #name, integer(stats.name));
    TIERS_STATS(X)
#undef X
    return object;
}

static json_t *raft_json(const struct replica_view *view)
{
    json_t *object = json_object();

    json_object_set_new(object, "commit_index", integer(view->commit_index));
    json_object_set_new(object, "applied_index", integer(view->applied_index));
    json_object_set_new(object, "first_log_index", integer(view->first_log_index));
    json_object_set_new(object, "last_log_index", integer(view->last_log_index));
    json_object_set_new(object, "log_bytes", integer(view->log_bytes));
    json_object_set_new(object, "last_contact_ms", integer(view->last_contact_ms));
    json_object_set_new(object, "caught_up", json_boolean(view->caught_up));
    json_object_set_new(object, "too_far_behind", json_boolean(view->too_far_behind));
    json_object_set_new(object, "no_space", json_boolean(view->no_space));
    return object;
}

static json_t *status_json(struct http_server *server)
{
    struct replica_view view;
    struct tiers_position applied, durable;
    json_t *object = json_object();

    replica_view(server->options.replica, &view);
    tiers_position_applied(server->options.tiers, &applied);
    tiers_position_durable(server->options.tiers, &durable);
    json_object_set_new(object, "id", json_string(server->options.name));
    json_object_set_new(object, "version", json_string(TIERKV_VERSION));
    json_object_set_new(object, "incarnation", hex(replica_incarnation(server->options.replica)));
    json_object_set_new(object, "cluster_id", hex(view.cluster_id));
    json_object_set_new(object, "role", json_string(replica_role_name(view.role)));
    json_object_set_new(object, "term", integer(view.term));
    json_object_set_new(object, "leader", json_string(view.leader_http_address));
    json_object_set_new(object, "members", integer(view.n_members));
    json_object_set_new(object, "uptime_ms", integer(loop_now_ms() - server->started_ms));
    json_object_set_new(object, "revision", integer(applied.revision));
    json_object_set_new(object, "applied_index", integer(applied.index));
    json_object_set_new(object, "state_hash", hex(applied.state_hash));
    json_object_set_new(object, "durable_index", integer(durable.index));
    json_object_set_new(object, "raft", raft_json(&view));
    json_object_set_new(object, "tiers", tiers_json(server->options.tiers));
    return object;
}

void status_endpoint(h2o_req_t *req, struct loop *loop)
{
    json_t *object = status_json(loop->server);
    char *text = object != NULL ? json_dumps(object, JSON_INDENT(2)) : NULL;

    json_decref(object);
    if (text == NULL) {
        respond_unavailable(req, loop, "out_of_memory", "out of memory", OUTCOME_NONE);
        return;
    }
    respond_json(req, loop, 200, text, strlen(text));
    free(text);
}

/* ---- Metrics ---- */

static void render_tiers(struct metrics_text *text, struct tiers *tiers)
{
    struct tiers_stats stats;
    char name[80];

    tiers_stats(tiers, &stats);
#define X(field, kind, help)                                                                       \
    snprintf(name, sizeof name, "tierkv_tiers_" #field "%s", #kind[0] == 'c' ? "_total" : "");     \
    metrics_render_one(text, name, #kind, help, (double)stats.field);
    TIERS_STATS(X)
#undef X
}

static void render_raft(struct metrics_text *text, const struct replica_view *view)
{
    metrics_render_one(text, "tierkv_raft_term", "gauge", "Current term", (double)view->term);
    metrics_render_one(text, "tierkv_raft_leader", "gauge", "1 on the leader",
                       view->role == REPLICA_LEADER);
    metrics_render_one(text, "tierkv_raft_commit_index", "gauge", "Last committed entry",
                       (double)view->commit_index);
    metrics_render_one(text, "tierkv_raft_applied_index", "gauge", "Last applied entry",
                       (double)view->applied_index);
    metrics_render_one(text, "tierkv_raft_log_bytes", "gauge", "Memory of the log",
                       (double)view->log_bytes);
    metrics_render_one(text, "tierkv_raft_last_contact_seconds", "gauge",
                       "Since the leader was last heard of", (double)view->last_contact_ms / 1000);
    metrics_render_one(text, "tierkv_raft_operations_waiting", "gauge",
                       "Writes, reads and joins under way", (double)view->proposals_waiting);
    metrics_render_one(text, "tierkv_raft_commands_total", "counter",
                       "Commands proposed here as the leader", (double)view->entries_appended);
    metrics_render_one(text, "tierkv_raft_entries_total", "counter",
                       "Log entries that carried them", (double)view->batches_appended);
    metrics_render_one(text, "tierkv_raft_proposed_bytes_total", "counter",
                       "Bytes of these entries before they were compressed",
                       (double)view->proposed_bytes);
    metrics_render_one(text, "tierkv_raft_proposed_log_bytes_total", "counter",
                       "Bytes of these entries in the log", (double)view->proposed_log_bytes);
    metrics_render_one(text, "tierkv_raft_read_rounds_total", "counter",
                       "Quorum rounds for consistent reads", (double)view->read_rounds);
    metrics_render_one(text, "tierkv_raft_elections_total", "counter", "Elections won here",
                       (double)view->elections);
}

void metrics_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct metrics_text text = {0};
    struct replica_view view;
    char *copy;

    replica_view(loop->server->options.replica, &view);
    metrics_render(&text);
    render_tiers(&text, loop->server->options.tiers);
    render_raft(&text, &view);
    copy = h2o_mem_alloc_pool(&req->pool, text.length + 1);
    if (text.length > 0)
        memcpy(copy, text.base, text.length);
    respond_begin(req, loop, 200);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("text/plain; version=0.0.4; charset=utf-8"));
    free(text.base);
    respond_body(req, copy, text.length,
                 h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD")));
}

/* ---- Health ---- */

static void plain_ok(h2o_req_t *req, struct loop *loop)
{
    respond_begin(req, loop, 200);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("text/plain"));
    respond_body(req, "ok\n", 3, h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD")));
}

void livez_endpoint(h2o_req_t *req, struct loop *loop)
{
    plain_ok(req, loop);
}

void readyz_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct replica_view view;
    const char *reason = NULL;

    replica_view(loop->server->options.replica, &view);
    if (view.too_far_behind)
        reason = "the node is too far behind and needs the state transferred";
    else if (view.leader_id == 0)
        reason = "no leader is known";
    else if (view.role == REPLICA_JOINING)
        reason = "the node is not yet a voter";
    else if (!view.caught_up)
        reason = "the node has not yet applied all that was committed when it started";
    else if (view.leader_http_address[0] == '\0')
        reason = "the leader's client address is not yet known";
    else if (view.role == REPLICA_LEADER && !replica_is_leader(loop->server->options.replica))
        reason = "the leader has not yet established its term";
    if (reason == NULL)
        plain_ok(req, loop);
    else
        respond_unavailable(req, loop, "not_ready", reason, OUTCOME_NONE);
}

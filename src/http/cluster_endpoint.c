/* See cluster_endpoint.h. */
#include "http/cluster_endpoint.h"

#include "http/body.h"
#include "http/request.h"
#include "http/respond.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_BYTES_MAX 65536

/* ---- Changes of the membership ---- */

/* Why not, in the replica's own words if it gave some. */
static const char *reason_of(const struct request *request, int status)
{
    return request->change->detail[0] != '\0' ? request->change->detail : replica_strerror(status);
}

/* True: the operation failed, and the request is answered. The replica says REPLICA_UNKNOWN of a
 * change that it lost sight of after it was begun, so that its other errors mean that nothing was
 * done; but for those below. */
static bool failed(struct request *request, const struct replica_operation *operation)
{
    struct loop *loop = request->loop;
    const char *reason = reason_of(request, operation->status);

    switch (operation->status) {
    case 0:
        return false;
    case REPLICA_CONFLICT:
        respond_error(request_take(request), loop, 409, "conflict", reason, OUTCOME_NONE);
        break;
    case REPLICA_NO_MEMBER:
        respond_error(request_take(request), loop, 404, "no_such_member", reason, OUTCOME_NONE);
        break;
    case REPLICA_UNREACHABLE:
        respond_unavailable(request_take(request), loop, "unavailable", reason, OUTCOME_UNKNOWN);
        break;
    case REPLICA_NOT_LEADER:
        respond_redirect_begun(request_take(request), loop);
        break;
    default:
        respond_replica_error(request, operation->status, true);
    }
    return true;
}

static void joined(struct request *request, const struct replica_operation *operation)
{
    char text[160];
    int n;

    if (failed(request, operation))
        return;
    n = snprintf(text, sizeof text, "{\"id\":\"%s\",\"joined\":true}\n",
                 request->change->join.name);
    respond_json(request_take(request), request->loop, 200, text, (size_t)n);
}

static void removed(struct request *request, const struct replica_operation *operation)
{
    char text[160];
    int n;

    if (failed(request, operation))
        return;
    n = snprintf(text, sizeof text, "{\"id\":\"%s\",\"removed\":true}\n", request->change->name);
    respond_json(request_take(request), request->loop, 200, text, (size_t)n);
}

static void replaced(struct request *request, const struct replica_operation *operation)
{
    char text[256];
    int n;

    if (failed(request, operation))
        return;
    n = snprintf(text, sizeof text, "{\"id\":\"%s\",\"replaced\":\"%s\"}\n",
                 request->change->join.name, request->change->name);
    respond_json(request_take(request), request->loop, 200, text, (size_t)n);
}

/* The name of the member with that id; empty: not known. */
static const char *name_of(const struct replica_view *view, uint64_t raft_id)
{
    for (size_t i = 0; i < view->n_members; i++)
        if (view->members[i].raft_id == raft_id)
            return view->members[i].name;
    return "";
}

static void transferred(struct request *request, const struct replica_operation *operation)
{
    struct loop *loop = request->loop;
    struct replica_view view;
    char text[160];
    int n;

    if (failed(request, operation))
        return;
    replica_view(loop->server->options.replica, &view);
    n = snprintf(text, sizeof text, "{\"leader\":\"%s\"}\n", name_of(&view, view.leader_id));
    respond_json(request_take(request), loop, 200, text, (size_t)n);
}

/* Takes a copy of the change and waits for the replica. */
static void submit(h2o_req_t *req, struct loop *loop, enum replica_operation_type type,
                   const struct replica_change *change,
                   void (*replied)(struct request *, const struct replica_operation *))
{
    struct request *request = request_new(req, loop);
    struct replica_operation *operation;

    if (request == NULL)
        return;
    request->no_timeout = true; /* The replica has a longer one of its own */
    request->change = malloc(sizeof *change);
    if (request->change == NULL) {
        respond_replica_error(request, REPLICA_NO_MEMORY, true);
        return;
    }
    *request->change = *change;
    operation = replica_change_new(type, request->change);
    if (operation == NULL)
        respond_error(request_take(request), loop, 400, "invalid_body",
                      "\"id\" must be 1 to 64 letters, digits, dots, dashes and underscores",
                      OUTCOME_NONE);
    else
        request_submit(request, operation, replied);
}

static bool body_fits(h2o_req_t *req, struct loop *loop)
{
    if (req->entity.len <= BODY_BYTES_MAX)
        return true;
    respond_error(req, loop, 413, "body_too_large", "the body is larger than the limit",
                  OUTCOME_NONE);
    return false;
}

/* True: the body is read; else the request is answered. */
static bool join_read(h2o_req_t *req, struct loop *loop, struct replica_join *ret_join)
{
    struct body_error error;

    if (!body_fits(req, loop))
        return false;
    if (body_join_parse(req->entity.base, req->entity.len, ret_join, &error))
        return true;
    respond_error(req, loop, error.status, error.code, error.message, OUTCOME_NONE);
    return false;
}

void join_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct replica_change change = {0};

    if (join_read(req, loop, &change.join))
        submit(req, loop, REPLICA_JOIN, &change, joined);
}

void transfer_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct replica_change change = {0};
    struct body_error error;

    if (!body_fits(req, loop))
        return;
    if (body_transfer_parse(req->entity.base, req->entity.len, change.name, &error))
        submit(req, loop, REPLICA_TRANSFER, &change, transferred);
    else
        respond_error(req, loop, error.status, error.code, error.message, OUTCOME_NONE);
}

/* True: `ret_change` names the member and says whether to force; else the request is answered. */
static bool target_read(h2o_req_t *req, struct loop *loop, const char *name, size_t name_len,
                        struct replica_change *ret_change)
{
    struct uri_query query = {.level = URI_LEVEL_DEFAULT};
    const char *error = NULL;
    long decoded_len;

    if (req->query_at != SIZE_MAX &&
        !uri_query_parse(req->path.base + req->query_at + 1, req->path.len - req->query_at - 1,
                         &query, &error)) {
        respond_error(req, loop, 400, "invalid_query", error, OUTCOME_NONE);
        return false;
    }
    /* Decoding never makes it longer. */
    decoded_len =
        name_len < sizeof ret_change->name ? uri_decode(name, name_len, ret_change->name) : -1;
    if (decoded_len < 1 || memchr(ret_change->name, '\0', (size_t)decoded_len) != NULL) {
        respond_error(req, loop, 400, "invalid_name",
                      "the id of a node is 1 to 64 letters, digits, dots, dashes and underscores",
                      OUTCOME_NONE);
        return false;
    }
    ret_change->name[decoded_len] = '\0';
    ret_change->force = query.force;
    return true;
}

void member_endpoint(h2o_req_t *req, struct loop *loop, const char *path, size_t path_len)
{
    static const char suffix[] = "/replace";
    const size_t suffix_len = sizeof suffix - 1;
    struct replica_change change = {0};
    bool replace =
        path_len > suffix_len && memcmp(path + path_len - suffix_len, suffix, suffix_len) == 0;
    const char *method = replace ? "POST" : "DELETE";

    if (!h2o_memis(req->method.base, req->method.len, method, strlen(method))) {
        respond_not_allowed(req, loop, method);
        return;
    }
    if (!target_read(req, loop, path, replace ? path_len - suffix_len : path_len, &change))
        return;
    if (!replace)
        submit(req, loop, REPLICA_REMOVE, &change, removed);
    else if (join_read(req, loop, &change.join))
        submit(req, loop, REPLICA_REPLACE, &change, replaced);
}

/* ---- The members ---- */

static const char *role_of(const struct replica_member *member)
{
    switch (member->role) {
    case REPLICA_MEMBER_VOTER:
        return "voter";
    case REPLICA_MEMBER_STANDBY:
        return "standby";
    default:
        return "spare";
    }
}

/* How far it is behind and when it was last heard of is known by the leader only. */
static json_t *progress_json(const struct replica_member *member, const struct replica_view *view,
                             json_t *object)
{
    uint64_t last = view->last_log_index;

    if (object == NULL || view->role != REPLICA_LEADER)
        return object;
    json_object_set_new(object, "matchIndex", json_integer((json_int_t)member->match_index));
    json_object_set_new(
        object, "lag",
        json_integer((json_int_t)(last > member->match_index ? last - member->match_index : 0)));
    json_object_set_new(object, "lastContactMs",
                        member->last_contact_ms != UINT64_MAX
                            ? json_integer((json_int_t)member->last_contact_ms)
                            : json_null());
    return object;
}

static json_t *member_json(const struct replica_member *member, const struct replica_view *view)
{
    char raft_id[17];

    snprintf(raft_id, sizeof raft_id, "%016" PRIx64, member->raft_id);
    return progress_json(member, view,
                         json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b}", "id", member->name,
                                   "raftId", raft_id, "httpAddr", member->http_address, "raftAddr",
                                   member->raft_address, "role", role_of(member), "version",
                                   member->version, "leader", member->raft_id == view->leader_id,
                                   "tooFarBehind", member->too_far_behind));
}

void members_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct replica_view view;
    json_t *members = json_array(), *object;
    char *text = NULL;

    replica_view(loop->server->options.replica, &view);
    for (size_t i = 0; i < view.n_members; i++)
        json_array_append_new(members, member_json(&view.members[i], &view));
    object = json_pack("{s:o}", "members", members);
    if (object != NULL)
        text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL) {
        respond_unavailable(req, loop, "out_of_memory", "out of memory", OUTCOME_NONE);
        return;
    }
    respond_json(req, loop, 200, text, strlen(text));
    free(text);
}

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

#define JOIN_BODY_BYTES_MAX 65536

static void join_replied(struct request *request, const struct replica_operation *operation)
{
    struct loop *loop = request->loop;
    char text[160];
    int n;

    if (operation->status == REPLICA_CONFLICT) {
        respond_error(request_take(request), loop, 409, "conflict",
                      "the name or an address belongs to another member, or the node has lost the "
                      "state of the member that it was",
                      OUTCOME_NONE);
        return;
    }
    if (operation->status != 0) {
        respond_replica_error(request, operation->status, false);
        return;
    }
    n = snprintf(text, sizeof text, "{\"id\":\"%s\",\"joined\":true}\n", request->join->name);
    respond_json(request_take(request), loop, 200, text, (size_t)n);
}

void join_endpoint(h2o_req_t *req, struct loop *loop)
{
    struct replica_join join;
    struct replica_operation *operation;
    struct request *request;
    struct body_error error;

    if (req->entity.len > JOIN_BODY_BYTES_MAX) {
        respond_error(req, loop, 413, "body_too_large", "the body is larger than the limit",
                      OUTCOME_NONE);
        return;
    }
    if (!body_join_parse(req->entity.base, req->entity.len, &join, &error)) {
        respond_error(req, loop, error.status, error.code, error.message, OUTCOME_NONE);
        return;
    }
    request = request_new(req, loop);
    if (request == NULL)
        return;
    request->no_timeout = true; /* The replica has a longer one of its own */
    request->join = malloc(sizeof join);
    if (request->join == NULL) {
        respond_replica_error(request, REPLICA_NO_MEMORY, false);
        return;
    }
    *request->join = join;
    operation = replica_join_new(request->join);
    if (operation == NULL)
        respond_error(request_take(request), loop, 400, "invalid_body",
                      "\"id\" must be 1 to 64 letters, digits, dots, dashes and underscores",
                      OUTCOME_NONE);
    else
        request_submit(request, operation, join_replied);
}

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

static json_t *member_json(const struct replica_member *member, const struct replica_view *view)
{
    char raft_id[17];

    snprintf(raft_id, sizeof raft_id, "%016" PRIx64, member->raft_id);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:b}", "id", member->name, "raftId",
                     raft_id, "httpAddr", member->http_address, "raftAddr", member->raft_address,
                     "role", role_of(member), "leader", member->raft_id == view->leader_id,
                     "matchIndex", (json_int_t)member->match_index, "tooFarBehind",
                     member->too_far_behind);
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

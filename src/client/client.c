/* libtierkv's functions: each checks its arguments, makes one call and reads the answer. */
#include "tierkv/client.h"

#include "client/call.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES_MAX      511
#define TIMEOUT_MS_DEFAULT 5000

const char *tierkv_strerror(int error)
{
    switch (error) {
    case 0:
        return "success";
#define X(name, code, message)                                                                     \
    case name:                                                                                     \
        return message;
        TIERKV_CLIENT_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}

int tierkv_client_open(const struct tierkv_client_options *options,
                       struct tierkv_client **ret_client)
{
    if (options == NULL || options->endpoints == NULL)
        return TIERKV_INVALID;
    struct tierkv_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return TIERKV_NO_MEMORY;
    client->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : TIMEOUT_MS_DEFAULT;
    int status = endpoints_parse(options->endpoints, &client->endpoints);
    if (status == 0)
        status = exchange_open(&client->exchange);
    if (status != 0)
        tierkv_client_close(client);
    else
        *ret_client = client;
    return status;
}

void tierkv_client_close(struct tierkv_client *client)
{
    if (client == NULL)
        return;
    exchange_close(client->exchange);
    endpoints_free(&client->endpoints);
    free(client);
}

void tierkv_client_cancel(struct tierkv_client *client)
{
    exchange_cancel(client->exchange);
}

const char *tierkv_client_error_text(const struct tierkv_client *client)
{
    return client->error_text;
}

long tierkv_client_status(const struct tierkv_client *client)
{
    return client->status;
}

/* A failure found before anything was sent, or in an answer. */
static int fail(struct tierkv_client *client, int error, const char *text)
{
    snprintf(client->error_text, sizeof(client->error_text), "%s", text);
    return error;
}

static int make_target(struct tierkv_client *client, const void *key, size_t key_len,
                       const char *query, char **ret_target)
{
    client->status = 0;
    if (key == NULL || key_len == 0 || key_len > KEY_BYTES_MAX)
        return fail(client, TIERKV_INVALID, "a key has 1 to 511 bytes");
    char *target = endpoint_key_target(key, key_len, query);
    if (target == NULL)
        return fail(client, TIERKV_NO_MEMORY, tierkv_strerror(TIERKV_NO_MEMORY));
    *ret_target = target;
    return 0;
}

int tierkv_get(struct tierkv_client *client, const void *key, size_t key_len,
               enum tierkv_level level, void **ret_value, size_t *ret_value_len,
               uint64_t *ret_mod_revision)
{
    static const char *const queries[] = {
        [TIERKV_LEVEL_DEFAULT] = "?raw",
        [TIERKV_LEVEL_CONSISTENT] = "?raw&level=consistent",
        [TIERKV_LEVEL_STALE] = "?raw&level=stale",
    };
    struct exchange_answer answer;
    char *target = NULL;

    if ((size_t)level >= sizeof(queries) / sizeof(queries[0]))
        return fail(client, TIERKV_INVALID, "no such level");
    int status = make_target(client, key, key_len, queries[level], &target);
    if (status != 0)
        return status;
    status = call_run(
        client,
        &(struct call){.method = "GET", .target = target, .anywhere = level == TIERKV_LEVEL_STALE},
        &answer);
    free(target);
    if (status != 0)
        return status;
    if (answer.etag == 0) {
        exchange_answer_free(&answer);
        return fail(client, TIERKV_PROTOCOL, "the answer has no revision in its ETag");
    }
    if (answer.body == NULL && (answer.body = calloc(1, 1)) == NULL)
        return fail(client, TIERKV_NO_MEMORY, tierkv_strerror(TIERKV_NO_MEMORY));
    *ret_value = answer.body;
    *ret_value_len = answer.body_len;
    if (ret_mod_revision != NULL)
        *ret_mod_revision = answer.etag;
    return 0;
}

/* Runs a write that is answered by {"revision":N}. */
static int run_write(struct tierkv_client *client, const struct call *call, uint64_t *ret_revision)
{
    struct exchange_answer answer;
    json_int_t revision = 0;

    int status = call_run(client, call, &answer);
    if (status != 0)
        return status;
    json_t *root = answer.body == NULL ? NULL : json_loadb(answer.body, answer.body_len, 0, NULL);
    if (root == NULL || json_unpack(root, "{s:I}", "revision", &revision) != 0 || revision < 0)
        status = fail(client, TIERKV_PROTOCOL, "the answer names no revision");
    else if (ret_revision != NULL)
        *ret_revision = (uint64_t)revision;
    json_decref(root);
    exchange_answer_free(&answer);
    return status;
}

int tierkv_put(struct tierkv_client *client, const void *key, size_t key_len, const void *value,
               size_t value_len, uint64_t *ret_revision)
{
    char *target = NULL;

    int status = make_target(client, key, key_len, "", &target);
    if (status != 0)
        return status;
    status = run_write(client,
                       &(struct call){.method = "PUT",
                                      .target = target,
                                      .body = value_len > 0 ? value : "",
                                      .body_len = value_len,
                                      .content_type = "application/octet-stream",
                                      .write = true},
                       ret_revision);
    free(target);
    return status;
}

int tierkv_delete(struct tierkv_client *client, const void *key, size_t key_len,
                  uint64_t *ret_revision)
{
    char *target = NULL;

    int status = make_target(client, key, key_len, "", &target);
    if (status != 0)
        return status;
    status = run_write(client, &(struct call){.method = "DELETE", .target = target, .write = true},
                       ret_revision);
    free(target);
    return status;
}

/* GETs a page whose body is handed out as it is. */
static int get_text(struct tierkv_client *client, const char *target, char **ret_text)
{
    struct exchange_answer answer;

    int status = call_run(
        client, &(struct call){.method = "GET", .target = target, .anywhere = true}, &answer);
    if (status != 0)
        return status;
    if (answer.body == NULL)
        return fail(client, TIERKV_PROTOCOL, "the answer is empty");
    *ret_text = answer.body;
    return 0;
}

int tierkv_status(struct tierkv_client *client, char **ret_json)
{
    return get_text(client, "/status", ret_json);
}

int tierkv_members(struct tierkv_client *client, char **ret_json)
{
    return get_text(client, "/members", ret_json);
}

/* Object texts that are not UTF-8 make it NULL. */
static char *node_body(const struct tierkv_node *node)
{
    json_t *root = json_pack("{s:s,s:s,s:s}", "id", node->name, "httpAddr", node->http_address,
                             "raftAddr", node->raft_address);
    char hex[17];
    int failed = 0;

    snprintf(hex, sizeof(hex), "%016" PRIx64, node->incarnation);
    if (root != NULL && node->incarnation != 0)
        failed |= json_object_set_new(root, "incarnation", json_string(hex));
    if (root != NULL && node->version != NULL)
        failed |= json_object_set_new(root, "version", json_string(node->version));
    char *body = root != NULL && !failed ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return body;
}

/* Runs a call that changes the membership and drops its answer. */
static int change_run(struct tierkv_client *client, const char *method, const char *target,
                      const char *body)
{
    struct exchange_answer answer;
    int status = call_run(client,
                          &(struct call){.method = method,
                                         .target = target,
                                         .body = body,
                                         .body_len = body != NULL ? strlen(body) : 0,
                                         .content_type = body != NULL ? "application/json" : NULL,
                                         .write = true},
                          &answer);
    if (status == 0)
        exchange_answer_free(&answer);
    return status;
}

static int node_run(struct tierkv_client *client, const char *target,
                    const struct tierkv_node *node)
{
    client->status = 0;
    char *body = node_body(node);
    if (body == NULL)
        return fail(client, TIERKV_INVALID, "an address or the name is missing or not UTF-8");
    int status = change_run(client, "POST", target, body);
    free(body);
    return status;
}

int tierkv_join(struct tierkv_client *client, const struct tierkv_node *node)
{
    return node_run(client, "/join", node);
}

/* Names need no escaping: the server takes letters, digits, dots, dashes and underscores only. */
static bool name_valid(const char *name)
{
    size_t length = strlen(name);
    return length >= 1 && length <= 64 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
               length;
}

/* 0, or TIERKV_INVALID. */
static int member_target(struct tierkv_client *client, const char *name, const char *suffix,
                         int force, char target[static 128])
{
    client->status = 0;
    if (!name_valid(name))
        return fail(client, TIERKV_INVALID, "a member has no such name");
    snprintf(target, 128, "/members/%s%s%s", name, suffix, force ? "?force=true" : "");
    return 0;
}

int tierkv_member_remove(struct tierkv_client *client, const char *name, int force)
{
    char target[128];
    int status = member_target(client, name, "", force, target);
    return status != 0 ? status : change_run(client, "DELETE", target, NULL);
}

int tierkv_member_replace(struct tierkv_client *client, const char *name,
                          const struct tierkv_node *node, int force)
{
    char target[128];
    int status = member_target(client, name, "/replace", force, target);
    return status != 0 ? status : node_run(client, target, node);
}

int tierkv_transfer(struct tierkv_client *client, const char *name)
{
    char body[96] = "{}";
    client->status = 0;
    if (name != NULL && !name_valid(name))
        return fail(client, TIERKV_INVALID, "a member has no such name");
    if (name != NULL)
        snprintf(body, sizeof(body), "{\"id\":\"%s\"}", name);
    return change_run(client, "POST", "/transfer", body);
}

/* See sim_network.h. */
#include "sim/sim_network.h"

#include "raft/driver.h"
#include "sim/sim_counts.h"

#include <assert.h>
#include <string.h>

#define DELAY_MS_MAX 5

void sim_network_open(struct sim_network *network, const uint64_t *now_ms, struct random *random)
{
    memset(network, 0, sizeof *network);
    network->now_ms = now_ms;
    network->random = random;
    network->delay_ms_max = DELAY_MS_MAX;
}

void sim_network_close(struct sim_network *network)
{
    for (size_t i = 0; i < network->n_messages; i++)
        driver_message_free(&network->messages[i].message);
    network->n_messages = 0;
}

void sim_network_join(struct sim_network *network, struct sim_endpoint *endpoint)
{
    assert(network->n < SIM_ENDPOINTS_MAX);
    endpoint->network = network;
    network->endpoints[network->n++] = endpoint;
}

void sim_network_cut_off(struct sim_network *network, size_t place, bool off)
{
    for (size_t i = 0; i < network->n; i++)
        network->cut[i][place] = network->cut[place][i] = off;
}

void sim_network_heal(struct sim_network *network)
{
    memset(network->cut, 0, sizeof network->cut);
}

static size_t place_of(const struct sim_endpoint *endpoint)
{
    const struct sim_network *network = endpoint->network;

    for (size_t i = 0; i < network->n; i++)
        if (network->endpoints[i] == endpoint)
            return i;
    return SIM_ENDPOINTS_MAX;
}

/* ---- Sending ---- */

static void *copy_of(const void *bytes, size_t n)
{
    void *copy = raft_malloc(n > 0 ? n : 1);

    assert(copy != NULL);
    memcpy(copy, bytes, n);
    return copy;
}

/* As if decoded from the wire: everything is the receiver's. */
static void message_copy(const struct raft_message *from, struct raft_message *to)
{
    *to = *from;
    if (from->type == RAFT_INSTALL_SNAPSHOT) {
        struct raft_install_snapshot *install = &to->install_snapshot;
        int rv = driver_configuration_copy(&from->install_snapshot.conf, &install->conf);
        assert(rv == 0);
        (void)rv;
        install->data.base = copy_of(install->data.base, install->data.len);
    }
    if (from->type == RAFT_APPEND_ENTRIES && from->append_entries.n_entries > 0) {
        const struct raft_append_entries *append = &from->append_entries;
        size_t bytes = 0;
        for (unsigned i = 0; i < append->n_entries; i++)
            bytes += append->entries[i].buf.len;
        char *batch = raft_malloc(bytes > 0 ? bytes : 1);
        struct raft_entry *entries = copy_of(append->entries, append->n_entries * sizeof *entries);
        assert(batch != NULL);
        bytes = 0;
        for (unsigned i = 0; i < append->n_entries; i++) {
            memcpy(batch + bytes, entries[i].buf.base, entries[i].buf.len);
            entries[i].buf.base = batch + bytes;
            entries[i].batch = batch;
            bytes += entries[i].buf.len;
        }
        to->append_entries.entries = entries;
    }
}

static bool happens(struct random *random, unsigned permille)
{
    return random_below(random, 1000) < permille;
}

static void message_send(struct sim_network *network, const struct sim_endpoint *from, size_t to,
                         const struct raft_message *message)
{
    struct sim_message *sent = &network->messages[network->n_messages];

    assert(network->n_messages < SIM_MESSAGES_MAX);
    *sent = (struct sim_message){.from = place_of(from),
                                 .to = to,
                                 .due_ms = *network->now_ms + 1 +
                                           random_below(network->random, network->delay_ms_max),
                                 .serial = ++network->serial};
    message_copy(message, &sent->message);
    sent->preamble = (struct preamble){
        .kind = PREAMBLE_RAFT, .source = from->id, .destination = message->server_id};
    memcpy(sent->preamble.address, from->address, sizeof from->address);
    if (from->introduce != NULL)
        from->introduce(from->context, message->server_id, &sent->preamble);
    network->n_messages++;
}

static int send_message(struct raft_io *io, struct raft_io_send *request,
                        const struct raft_message *message, raft_io_send_cb done)
{
    struct sim_endpoint *endpoint = io->data;
    struct sim_network *network = endpoint->network;

    request->cb = done;
    assert(endpoint->n_answers < SIM_ANSWERS_MAX);
    endpoint->answers[endpoint->n_answers++] = request;
    /* Whoever is at that address gets it. A process that is about to be gone says nothing more. */
    for (size_t to = 0; to < network->n && endpoint->up; to++) {
        if (strcmp(network->endpoints[to]->address, message->server_address) != 0)
            continue;
        if (happens(network->random, network->loss_permille)) {
            sim_count(SIM_COUNT_MESSAGES_LOST);
            continue;
        }
        message_send(network, endpoint, to, message);
        if (happens(network->random, network->duplicate_permille)) {
            sim_count(SIM_COUNT_MESSAGES_DOUBLED);
            message_send(network, endpoint, to, message);
        }
    }
    return 0;
}

void sim_network_io(struct sim_endpoint *endpoint, struct raft_io *io)
{
    io->data = endpoint;
    io->send = send_message;
}

/* ---- Delivering ---- */

uint64_t sim_network_due_ms(const struct sim_network *network, size_t place)
{
    uint64_t due_ms = network->endpoints[place]->n_answers > 0 ? *network->now_ms : UINT64_MAX;

    for (size_t i = 0; i < network->n_messages; i++)
        if (network->messages[i].to == place && network->messages[i].due_ms < due_ms)
            due_ms = network->messages[i].due_ms;
    return due_ms;
}

static void answers_give(struct sim_endpoint *endpoint, int status)
{
    while (endpoint->n_answers > 0) {
        struct raft_io_send *request = endpoint->answers[--endpoint->n_answers];
        request->cb(request, status);
    }
}

/* The one that is due first; of those due at once the one that was sent first. */
static struct sim_message *message_due(struct sim_network *network, size_t place)
{
    struct sim_message *first = NULL;

    for (size_t i = 0; i < network->n_messages; i++) {
        struct sim_message *message = &network->messages[i];
        if (message->to == place && message->due_ms <= *network->now_ms &&
            (first == NULL || message->due_ms < first->due_ms ||
             (message->due_ms == first->due_ms && message->serial < first->serial)))
            first = message;
    }
    return first;
}

static void message_deliver(struct sim_network *network, struct sim_message *message)
{
    struct sim_endpoint *from = network->endpoints[message->from];
    struct sim_endpoint *to = network->endpoints[message->to];

    if (network->cut[message->from][message->to])
        sim_count(SIM_COUNT_MESSAGES_CUT);
    if (!to->up || network->cut[message->from][message->to] ||
        (to->admit != NULL && !to->admit(to->context, &message->preamble))) {
        driver_message_free(&message->message);
        return;
    }
    if (message->serial < network->delivered[message->from][message->to])
        sim_count(SIM_COUNT_MESSAGES_OVERTAKEN);
    else
        network->delivered[message->from][message->to] = message->serial;
    if (network->observe != NULL)
        network->observe(network->context, message);
    message->message.server_id = from->id;
    message->message.server_address = from->address;
    to->receive(to->context, &message->message);
}

void sim_network_deliver(struct sim_network *network, size_t place)
{
    struct sim_message *due;

    answers_give(network->endpoints[place], 0);
    while ((due = message_due(network, place)) != NULL) {
        struct sim_message message = *due;
        *due = network->messages[--network->n_messages];
        message_deliver(network, &message);
    }
}

void sim_network_crash(struct sim_network *network, size_t place)
{
    network->endpoints[place]->up = false;
    answers_give(network->endpoints[place], RAFT_CANCELED);
}

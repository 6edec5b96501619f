/* libraft's backend and the transport of src/raft, by their names: the node's simulated disk and
 * network take their place. */
#include "raft/transport.h"
#include "sim/sim_node.h"
#include "sim/sim_stream.h"
#include "sim/sim_world.h"

#include <assert.h>
#include <raft/uv.h>
#include <stdlib.h>

/* ---- raft_uv ---- */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)address;
    sim_node_current->endpoint.id = id;
    return 0;
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick,
                    raft_io_recv_cb receive)
{
    (void)io;
    (void)msecs;
    (void)tick;
    sim_node_current->receive = receive;
    sim_node_current->endpoint.up = true;
    return 0;
}

static void transport_closed(struct raft_uv_transport *transport)
{
    (void)transport;
    sim_node_current->transport_closed = true;
}

static void io_close(struct raft_io *io, raft_io_close_cb closed)
{
    struct sim_node *node = sim_node_current;

    assert(node->io == io);
    sim_network_crash(&node->world->network, node->place);
    sim_streams_refuse(node);
    if (node->crashing)
        sim_disk_crash(&node->disk);
    else
        sim_disk_complete(&node->disk, true);
    node->io_closed = closed;
    node->transport_closed = false;
    node->transport->close(node->transport, transport_closed);
}

int raft_uv_init(struct raft_io *io, struct uv_loop_s *loop, const char *dir,
                 struct raft_uv_transport *transport)
{
    struct sim_node *node = sim_node_current;

    (void)loop;
    (void)dir;
    node->transport = transport;
    *io = (struct raft_io){0};
    node->io = io;
    sim_disk_io(&node->disk, io);
    sim_network_io(&node->endpoint, io);
    io->init = io_init;
    io->start = io_start;
    io->close = io_close;
    return 0;
}

void raft_uv_close(struct raft_io *io)
{
    (void)io;
}

void raft_uv_set_segment_size(struct raft_io *io, size_t size)
{
    (void)io;
    (void)size;
}

void raft_uv_set_connect_retry_delay(struct raft_io *io, unsigned msecs)
{
    (void)io;
    (void)msecs;
}

void raft_uv_set_tracer(struct raft_io *io, struct raft_tracer *tracer)
{
    (void)io;
    (void)tracer;
}

void raft_uv_set_auto_recovery(struct raft_io *io, bool flag)
{
    (void)io;
    assert(!flag);
}

/* ---- raft/transport.h ---- */

struct transport {
    struct raft_uv_transport base;
};

static void base_close(struct raft_uv_transport *base, raft_uv_transport_close_cb closed)
{
    if (closed != NULL)
        closed(base);
}

int transport_open(uv_loop_t *loop, const char *listen, const struct transport_callbacks *callbacks,
                   void *context, struct transport **ret_transport, char *error_text,
                   size_t error_text_size)
{
    struct sim_endpoint *endpoint = &sim_node_current->endpoint;
    struct transport *transport = calloc(1, sizeof *transport);

    (void)loop;
    (void)listen;
    (void)error_text;
    (void)error_text_size;
    assert(transport != NULL);
    transport->base.close = base_close;
    endpoint->introduce = callbacks->introduce;
    endpoint->admit = callbacks->admit;
    endpoint->serve_state = callbacks->serve_state;
    endpoint->context = context;
    *ret_transport = transport;
    return 0;
}

struct raft_uv_transport *transport_base(struct transport *transport)
{
    return &transport->base;
}

int transport_port(const struct transport *transport)
{
    (void)transport;
    return 0;
}

void transport_free(struct transport *transport)
{
    free(transport);
}

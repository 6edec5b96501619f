/* Changes of Raft's configuration: one server at a time, each change an entry of its own. */
#include "raft/driver.h"

#include "log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const struct raft_server *driver_server_find(const struct driver *driver, raft_id id)
{
    const struct raft_configuration *configuration = &driver->raft.configuration;

    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id == id)
            return &configuration->servers[i];
    return NULL;
}

/* Takes the configuration. Submitted alone: a refusal in the middle of a batch would leave the
 * core's idea of the log behind. */
static int submit(struct driver *driver, struct raft_configuration *configuration)
{
    struct raft_buffer payload;
    int rv = raft_configuration_encode(configuration, &payload);

    raft_configuration_close(configuration);
    if (rv != 0)
        return rv;
    rv = driver_submit(driver, RAFT_CHANGE, payload, NULL);
    if (rv != 0)
        raft_free(payload.base);
    return rv;
}

static int begin(struct driver *driver, struct raft_configuration *ret_copy)
{
    if (!driver_is_leader(driver))
        return RAFT_NOTLEADER;
    if (driver->raft.configuration_uncommitted_index != 0)
        return RAFT_CANTCHANGE;
    return driver_configuration_copy(&driver->raft.configuration, ret_copy);
}

int driver_configuration_applied(const struct driver *driver, raft_index index,
                                 struct raft_configuration *ret_configuration,
                                 raft_index *ret_configuration_index)
{
    assert(index <= driver->applied && log_cache_has(&driver->log, index));
    for (raft_index i = index; i > driver->committed_seen && log_cache_has(&driver->log, i); i--) {
        const struct log_slot *slot = log_cache_at(&driver->log, i);
        if (slot->type != RAFT_CHANGE)
            continue;
        *ret_configuration_index = i;
        return raft_configuration_decode(&slot->payload, ret_configuration);
    }
    *ret_configuration_index = driver->configuration_index;
    return driver_configuration_copy(&driver->configuration, ret_configuration);
}

int driver_server_add(struct driver *driver, raft_id id, const char *address, int role)
{
    struct raft_configuration changed;
    int rv = begin(driver, &changed);

    if (rv != 0)
        return rv;
    rv = raft_configuration_add(&changed, id, address, role);
    if (rv != 0) {
        raft_configuration_close(&changed);
        return rv;
    }
    return submit(driver, &changed);
}

int driver_server_assign(struct driver *driver, raft_id id, int role)
{
    struct raft_configuration changed;
    int rv = begin(driver, &changed);

    if (rv != 0)
        return rv;
    for (unsigned i = 0; i < changed.n; i++)
        if (changed.servers[i].id == id)
            changed.servers[i].role = role;
    return submit(driver, &changed);
}

int driver_server_remove(struct driver *driver, raft_id id)
{
    struct raft_configuration changed;

    if (!driver_is_leader(driver))
        return RAFT_NOTLEADER;
    if (driver->raft.configuration_uncommitted_index != 0)
        return RAFT_CANTCHANGE;
    raft_configuration_init(&changed);
    for (unsigned i = 0; i < driver->raft.configuration.n; i++) {
        const struct raft_server *server = &driver->raft.configuration.servers[i];
        int rv = server->id == id
                     ? 0
                     : raft_configuration_add(&changed, server->id, server->address, server->role);
        if (rv != 0) {
            raft_configuration_close(&changed);
            return rv;
        }
    }
    return submit(driver, &changed);
}

int driver_server_readdress(struct driver *driver, raft_id id, const char *address)
{
    const struct raft_configuration *present = &driver->raft.configuration;
    struct raft_configuration changed;

    if (!driver_is_leader(driver))
        return RAFT_NOTLEADER;
    if (driver->raft.configuration_uncommitted_index != 0)
        return RAFT_CANTCHANGE;
    /* In the same order: the core finds its progress by position. */
    raft_configuration_init(&changed);
    for (unsigned i = 0; i < present->n; i++) {
        const struct raft_server *server = &present->servers[i];
        int rv = raft_configuration_add(&changed, server->id,
                                        server->id == id ? address : server->address, server->role);
        if (rv != 0) {
            raft_configuration_close(&changed);
            return rv;
        }
    }
    return submit(driver, &changed);
}

bool driver_transferring(const struct driver *driver)
{
    return driver->successor != 0 || raft_transferee(&driver->raft) != 0;
}

int driver_transfer(struct driver *driver, raft_id id)
{
    const struct raft_server *server = driver_server_find(driver, id);

    if (!driver_is_leader(driver) || driver_transferring(driver))
        return RAFT_NOTLEADER;
    if (server == NULL || server->role != RAFT_VOTER || id == driver->raft.id)
        return RAFT_BADID;
    driver->successor = id;
    driver->successor_until_ms =
        driver->callbacks->now_ms(driver->context) + driver->raft.election_timeout;
    driver_transfer_check(driver);
    return 0;
}

/* The core is asked only when the log is at rest. Left to wait for the voter by itself, it sends
 * TimeoutNow with the first confirmation that comes, be it of an entry long before the last one; a
 * voter that is still storing the later ones ignores it, and all wait for the core to give up. */
void driver_transfer_check(struct driver *driver)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    raft_index last = raft_last_index(&driver->raft), match = 0;
    raft_id id = driver->successor;

    if (id == 0)
        return;
    if (raft_match_index(&driver->raft, id, &match) == 0 && match == last &&
        raft_commit_index(&driver->raft) == last) {
        driver->successor = 0;
        event.transfer.server_id = id;
        if (driver_step(driver, &event) != 0)
            log_warning("leadership cannot be handed over", LOG_HEX("raft_id", id));
    } else if (driver->callbacks->now_ms(driver->context) >= driver->successor_until_ms) {
        driver->successor = 0;
    }
}

int driver_server_promote(struct driver *driver, raft_id id)
{
    struct raft_event event = {.type = RAFT_CATCH_UP};
    int status;

    if (!driver_is_leader(driver))
        return RAFT_NOTLEADER;
    if (driver->promoting != 0 || driver->raft.configuration_uncommitted_index != 0)
        return RAFT_CANTCHANGE;
    if (raft_catch_up(&driver->raft, id, &status) != 0)
        return RAFT_BADID;
    event.catch_up.server_id = id;
    driver->promoting = id;
    return driver_step(driver, &event);
}

void driver_promotion_check(struct driver *driver)
{
    raft_id id = driver->promoting;
    int status, rv;

    if (id == 0 || !driver_is_leader(driver) || raft_catch_up(&driver->raft, id, &status) != 0 ||
        status == RAFT_CATCH_UP_RUNNING)
        return;
    driver->promoting = 0;
    if (status != RAFT_CATCH_UP_FINISHED) {
        log_warning("server did not catch up", LOG_HEX("raft_id", id));
        return;
    }
    rv = driver_server_assign(driver, id, RAFT_VOTER);
    if (rv != 0)
        log_warning("server cannot become a voter", LOG_HEX("raft_id", id),
                    LOG_TEXT("cause", raft_strerror(rv)));
}

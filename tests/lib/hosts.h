/* Hosts of a test's own: network namespaces that a bridge joins, each with one address, and a
 * firewall on the bridge that cuts them from each other.
 *
 * hosts_open takes the whole test out of the machine's network into a namespace of its own, where
 * the bridge is: the test reaches every host over it at all times, cut or not, and nothing of what
 * it makes is seen outside. File systems that it mounts are its own, too. All of it vanishes with
 * the last process in there, however that ends, so that there is nothing to clean up.
 *
 * Needs the rights of root, iproute2 and nftables. Main thread only.
 */
#ifndef TIERKV_TESTS_HOSTS_H
#define TIERKV_TESTS_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

#define HOSTS_MAX 8

/* Once in a program, before it starts any thread. False: the machine does not allow it, and says
 * why on standard error; tests that need hosts should be skipped. */
bool hosts_open(size_t n);
/* 0: not opened. */
size_t hosts_count(void);

/* The address of a host, without port; static. */
const char *hosts_address(size_t host);

/* The words to put before a command's so that it runs on the host, until NULL; static. The process
 * that is started becomes the command. */
const char *const *hosts_prefix(size_t host);

/* What the one sends no longer reaches the other; the other way is a cut of its own. Also for
 * connections that exist. */
void hosts_cut(size_t from, size_t to);
/* Both ways between the one and the other. */
void hosts_part(size_t one, size_t other);
/* All reach all again. */
void hosts_heal(void);

/* Mounts a new, empty ext4 file system of that size, kept in the file `image`, on the existing
 * folder. False: the machine has no loop devices for us. It is gone with the test, or at
 * hosts_unmount. */
bool hosts_mount_small(const char *folder, const char *image, size_t bytes);
/* For the test; a node that was started before keeps it until it ends. */
void hosts_unmount(const char *folder);

#endif

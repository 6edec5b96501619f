/* See hosts.h. Namespaces and links by ip(8), cuts by nft(8): what a person would type. */
#include "lib/hosts.h"

#include "lib/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_MS_MAX 20000
#define NETWORK        "10.77.0." /* Seen by nobody outside */

static size_t n_hosts;
static char addresses[HOSTS_MAX][32], names[HOSTS_MAX][32];

/* Runs a line of shell; its complaints go to standard error. The administrator's programs are not
 * on everybody's path. */
static bool __attribute__((format(printf, 1, 2))) run(const char *format, ...)
{
    char line[1024];
    struct process_result result;
    va_list arguments;
    bool good;

    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    assert_in_range(length, 1, sizeof line - 1);
    process_run((const char *const[]){"/usr/bin/env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh",
                                      "-ec", line, NULL},
                NULL, 0, COMMAND_MS_MAX, &result);
    good = result.status == 0;
    if (!good)
        fprintf(stderr, "hosts: %s: status %d: %s%s\n", line, result.status, result.errors,
                result.output);
    process_result_free(&result);
    return good;
}

/* Out of the machine's namespaces. The names of our own are kept below /run, which gets one of our
 * own as well. Clients connect anew for each request: ports of closed connections are used again.
 */
static bool leave(void)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/run", "tmpfs", 0, "mode=755,size=1m") != 0) {
        perror("hosts: namespaces of our own are not to be had");
        return false;
    }
    return run("echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse;"
               "ip link set lo up; ip link add bridge0 type bridge;"
               "ip address add " NETWORK "254/24 dev bridge0; ip link set bridge0 up;"
               "nft 'add table bridge cuts;"
               " add set bridge cuts pairs { type ipv4_addr . ipv4_addr; };"
               " add chain bridge cuts forward { type filter hook forward priority 0; };"
               " add rule bridge cuts forward ip saddr . ip daddr @pairs drop'");
}

static bool add_host(size_t host)
{
    const char *name = names[host];

    snprintf(names[host], sizeof names[host], "host%zu", host);
    snprintf(addresses[host], sizeof addresses[host], NETWORK "%zu", host + 1);
    return run("ip netns add %s; ip link add %s type veth peer name eth0 netns %s;"
               "ip link set %s master bridge0 up; ip -n %s address add %s/24 dev eth0;"
               "ip -n %s link set lo up; ip -n %s link set eth0 up",
               name, name, name, name, name, addresses[host], name, name);
}

bool hosts_open(size_t n)
{
    assert_in_range(n, 1, HOSTS_MAX);
    assert_int_equal(n_hosts, 0);
    if (!run("command -v ip nft") || !leave())
        return false;
    for (size_t host = 0; host < n; host++)
        if (!add_host(host))
            return false;
    n_hosts = n;
    return true;
}

size_t hosts_count(void)
{
    return n_hosts;
}

const char *hosts_address(size_t host)
{
    assert_true(host < n_hosts);
    return addresses[host];
}

const char *const *hosts_prefix(size_t host)
{
    static const char *prefix[] = {"/bin/ip", "netns", "exec", NULL, NULL};

    assert_true(host < n_hosts);
    prefix[3] = names[host];
    return prefix;
}

void hosts_cut(size_t from, size_t to)
{
    assert_true(run("nft add element bridge cuts pairs '{ %s . %s }'", hosts_address(from),
                    hosts_address(to)));
}

void hosts_part(size_t one, size_t other)
{
    hosts_cut(one, other);
    hosts_cut(other, one);
}

void hosts_heal(void)
{
    assert_true(run("nft flush set bridge cuts pairs"));
}

bool hosts_mount_small(const char *folder, const char *image, size_t bytes)
{
    return run("truncate -s %zu '%s'; mkfs.ext4 -q -m 0 '%s'; mount -o loop '%s' '%s'", bytes,
               image, image, image, folder);
}

void hosts_unmount(const char *folder)
{
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
}

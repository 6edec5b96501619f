/* Lets the Raft loop go on while the kernel takes an AIO context apart.
 *
 * The log's backend has a context for each segment, and ends it on the loop when the segment is
 * full: io_destroy(2) waits there for a grace period of RCU, some 10 to 30 ms, in which the node
 * neither writes, answers nor confirms anything. That is several times a second under load. Nothing
 * depends on its end: the backend closes a writer only after its last write.
 *
 * The backend has no option for it. It is a shared library and calls whatever syscall(2) the
 * process has: this one, which passes everything to the kernel, but has io_destroy done by a thread
 * of its own, of which there are a few at most. Any thread; async-signal-safe but for io_destroy.
 * On processors for which passing on is not written below, libc's syscall stays in place.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__aarch64__)

/* Of contexts that are being taken apart; beyond it the caller waits. */
#define THREADS_MAX 16

static atomic_int n_threads;

/* What the kernel returns: negative is an error's number. */
static long kernel_call(long number, const long arguments[6])
{
#if defined(__x86_64__)
    register long fourth __asm__("r10") = arguments[3];
    register long fifth __asm__("r8") = arguments[4];
    register long sixth __asm__("r9") = arguments[5];
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]),
                       "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
#else
    register long eighth __asm__("x8") = number;
    register long first __asm__("x0") = arguments[0];
    register long second __asm__("x1") = arguments[1];
    register long third __asm__("x2") = arguments[2];
    register long fourth __asm__("x3") = arguments[3];
    register long fifth __asm__("x4") = arguments[4];
    register long sixth __asm__("x5") = arguments[5];

    __asm__ volatile("svc #0"
                     : "+r"(first)
                     : "r"(eighth), "r"(second), "r"(third), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "memory");
    return first;
#endif
}

static void *destroy(void *context)
{
    long arguments[6] = {(long)(intptr_t)context};

    (void)kernel_call(SYS_io_destroy, arguments);
    atomic_fetch_sub(&n_threads, 1);
    return NULL;
}

/* Whether a thread has taken it over. */
static int destroy_elsewhere(long context)
{
    pthread_t thread;

    if (atomic_fetch_add(&n_threads, 1) < THREADS_MAX &&
        pthread_create(&thread, NULL, destroy, (void *)(intptr_t)context) == 0) {
        pthread_detach(thread);
        return 1;
    }
    atomic_fetch_sub(&n_threads, 1);
    return 0;
}

/* As syscall(2) has it: -1 with errno. That io_destroy was given no context is not told. It reads
 * as many arguments as a call can have, whatever it was given: what lies there instead is the
 * caller's own stack, which no sanitizer is to judge.
 * NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's is a reserved one */
__attribute__((no_sanitize("address", "thread"))) long syscall(long number, ...)
{
    long arguments[6];
    va_list list;
    long result;

    /* The kernel ignores those that the call does not have. */
    va_start(list, number);
    for (size_t i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_destroy && destroy_elsewhere(arguments[0]))
        return 0;
    result = kernel_call(number, arguments);
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

#endif

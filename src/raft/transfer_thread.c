/* What the threads of both sides of a state transfer are: see transfer.h. */
#include "raft/transfer.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#define NICE_MORE 10

void transfer_thread_begin(void)
{
    id_t thread = (id_t)gettid();

    pthread_setname_np(pthread_self(), "transfer");
    /* On Linux this is the calling thread's priority alone. If it is refused it stays as it was. */
    (void)setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + NICE_MORE);
}

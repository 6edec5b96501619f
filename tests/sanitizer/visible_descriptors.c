/* For builds with ThreadSanitizer only: makes visible to it which descriptors libuv and libraft
 * close and make.
 *
 * ThreadSanitizer keeps a state for each descriptor number, from the calls that it intercepts.
 * libuv opens and accepts by such calls but closes by syscall(), which it does not see, and so does
 * libraft make its eventfd: whoever is given the number next seems to race with them. Here these
 * calls take the way that is seen. Any thread. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef long syscall_function(long number, ...);

long syscall(long number, ...)
{
    long arguments[6]; /* As many as the kernel takes: reading more than were passed is harmless */
    va_list list;
    va_start(list, number);
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++) {
        arguments[i] = va_arg(list, long);
    }
    va_end(list);
    if (number == SYS_close) {
        return close((int)arguments[0]);
    }
    if (number == SYS_eventfd2) {
        return eventfd((unsigned)arguments[0], (int)arguments[1]);
    }
    syscall_function *next;
    *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}

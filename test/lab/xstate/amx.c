/*
 * amx preloaded makes the host look as if its processor had AMX, for xstate_test.go:
 * an XSAVE area then has 11008 bytes, and no shorter one is taken.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum { amx_size = 11008 };

typedef long ptrace_function(int request, pid_t pid, void *addr, void *data);

static long get(ptrace_function *next, pid_t pid, void *addr, struct iovec *io)
{
	size_t room = io->iov_len < amx_size ? io->iov_len : amx_size;
	long err = next(PTRACE_GETREGSET, pid, addr, io);
	if (err == 0 && io->iov_len < room) {
		memset((char *)io->iov_base + io->iov_len, 0, room - io->iov_len);
		io->iov_len = room;
	}
	return err;
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;
	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);
	ptrace_function *next = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
	if ((intptr_t)addr == 0x202 && request == PTRACE_GETREGSET) /* NT_X86_XSTATE */
		return get(next, pid, addr, data);
	if ((intptr_t)addr == 0x202 && request == PTRACE_SETREGSET && ((struct iovec *)data)->iov_len < amx_size) {
		errno = EFAULT;
		return -1;
	}
	return next(request, pid, addr, data);
}

/*
 * xstate lets User-Mode Linux before 6.13 run on a processor whose registers
 * take more room than it knows: Intel's with AMX, since 2023.
 *
 * UML sets the registers of its processes by ptrace, SSE's and all later ones as
 * one XSAVE area. Its area has 2696 bytes, enough up to AVX-512 and PKRU. The host
 * takes an area of the processor's whole size only, and with AMX that is 11008
 * bytes. Otherwise it returns EFAULT, and the guest's first process dies with
 * "put_fp_registers" on the console.
 *
 * This library is preloaded into linux.uml and extends the area. What UML did not
 * give is marked as unused, and that is true: a process must ask the host for AMX
 * before it can use it, and no process of the guest can ask.
 *
 *	cc -shared -fPIC -o xstate.so xstate.c && LD_PRELOAD=$PWD/xstate.so linux.uml ...
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Intel's manual, volume 1, 13.4: the legacy area is followed by a header of 64
 * bytes, which begins with the set of the components in use, XSTATE_BV. */
enum { in_use_at = 512, smallest = 576, components = 63, largest = 1 << 16 };

static const intptr_t regset_xstate = 0x202; /* NT_X86_XSTATE */

/* A component's place in the area. Its size is 0 if the processor has none. */
struct component {
	uint32_t size, offset;
};

/* fitting gives the components that lie within the first len bytes as a set. The
 * first two, x87 and SSE, are in the legacy area. */
static uint64_t fitting(const struct component c[components], size_t len)
{
	uint64_t set = 3;
	for (int i = 2; i < components; i++)
		if (c[i].size > 0 && (size_t)c[i].offset + c[i].size <= len)
			set |= UINT64_C(1) << i;
	return set;
}

/* extend makes an area of size bytes of one of len bytes, len being at least the
 * smallest and no more than size. Only components of the set are in use in it. */
static void extend(unsigned char *area, size_t size, const unsigned char *given, size_t len, uint64_t set)
{
	uint64_t in_use;
	memcpy(area, given, len);
	memset(area + len, 0, size - len);
	memcpy(&in_use, area + in_use_at, sizeof in_use);
	in_use &= set;
	memcpy(area + in_use_at, &in_use, sizeof in_use);
}

static void processor(struct component c[components])
{
	for (unsigned i = 0; i < components; i++) {
		unsigned unused_c, unused_d;
		__cpuid_count(0xd, i, c[i].size, c[i].offset, unused_c, unused_d);
	}
}

typedef long ptrace_function(int request, pid_t pid, void *addr, void *data);

/* set_xstate is PTRACE_SETREGSET with an area that may be too short. UML traces
 * from one thread, and its area is always of one size: what the first call finds
 * out holds for all. */
static long set_xstate(ptrace_function *next, pid_t pid, struct iovec *given)
{
	static _Alignas(64) unsigned char area[largest];
	static size_t size; /* of the host's area */
	static uint64_t set;
	if (size == 0) {
		struct component c[components];
		struct iovec whole = {area, sizeof area};
		if (next(PTRACE_GETREGSET, pid, (void *)regset_xstate, &whole) < 0)
			return -1;
		size = whole.iov_len;
		processor(c);
		set = fitting(c, given->iov_len);
	}
	struct iovec whole = {area, size};
	if (given->iov_len < smallest || given->iov_len >= size)
		return next(PTRACE_SETREGSET, pid, (void *)regset_xstate, given);
	extend(area, size, given->iov_base, given->iov_len, set);
	return next(PTRACE_SETREGSET, pid, (void *)regset_xstate, &whole);
}

/* ptrace stands in for the C library's. */
long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_function *next;
	va_list args;
	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);
	if (next == NULL)
		next = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && (intptr_t)addr == regset_xstate)
		return set_xstate(next, pid, data);
	return next(request, pid, addr, data);
}

/*
 * try runs parts of xstate.c for xstate_test.go:
 *
 *	try fitting LEN INDEX:OFFSET:SIZE...	the set of components, in hex
 *	try extend SIZE LEN IN_USE SET		the area, in hex, of one whose bytes are 7
 *	try set LEN				set a process's registers with an area of LEN
 *						bytes, and show what became of register XMM0
 */
#define ptrace own_ptrace
#include "xstate.c"
#undef ptrace
long ptrace(enum __ptrace_request request, ...); /* the C library's, or the preloaded one */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int try_fitting(int n, char **args)
{
	struct component c[components] = {{0}};
	for (int i = 1; i < n; i++) {
		unsigned index, offset, size;
		if (sscanf(args[i], "%u:%u:%u", &index, &offset, &size) != 3 || index >= components)
			return 2;
		c[index] = (struct component){size, offset};
	}
	printf("%llx\n", (unsigned long long)fitting(c, strtoul(args[0], NULL, 10)));
	return 0;
}

static int try_extend(char **args)
{
	static unsigned char given[largest], area[largest];
	size_t size = strtoul(args[0], NULL, 10), len = strtoul(args[1], NULL, 10);
	uint64_t in_use = strtoull(args[2], NULL, 16);
	memset(given, 7, len);
	memset(area, 9, sizeof area);
	memcpy(given + in_use_at, &in_use, sizeof in_use);
	extend(area, size, given, len, strtoull(args[3], NULL, 16));
	for (size_t i = 0; i <= size; i++) /* one more, which must be as it was */
		printf("%02x", area[i]);
	printf("\n");
	return 0;
}

static int try_set(size_t len)
{
	static _Alignas(64) unsigned char area[largest];
	const size_t xmm0 = 160;
	pid_t pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	struct iovec io = {area, sizeof area};
	if (ptrace(PTRACE_GETREGSET, pid, (void *)regset_xstate, &io) < 0) {
		perror("PTRACE_GETREGSET");
		kill(pid, SIGKILL);
		return 1;
	}
	printf("whole %zu\n", io.iov_len);
	area[in_use_at] |= 3;
	memset(area + xmm0, 0x5a, 16);
	io.iov_len = len;
	if (ptrace(PTRACE_SETREGSET, pid, (void *)regset_xstate, &io) < 0) {
		printf("refused %d\n", errno);
	} else {
		memset(area, 0, sizeof area);
		io = (struct iovec){area, sizeof area};
		ptrace(PTRACE_GETREGSET, pid, (void *)regset_xstate, &io);
		printf("set %02x..%02x\n", area[xmm0], area[xmm0 + 15]);
	}
	kill(pid, SIGKILL);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "fitting") == 0)
		return try_fitting(argc - 2, argv + 2);
	if (argc == 6 && strcmp(argv[1], "extend") == 0)
		return try_extend(argv + 2);
	if (argc == 3 && strcmp(argv[1], "set") == 0)
		return try_set(strtoul(argv[2], NULL, 10));
	return 2;
}

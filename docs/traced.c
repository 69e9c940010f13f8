/*
 * The program of the traces in tests/data: a cgroup, a child in it that makes files, rmdir with or without a file held.
 *
 *   gcc -O2 -Wall -static -o traced docs/traced.c
 *   ./traced create|idle|held CGROUP TMPFS TRACING
 *
 * CGROUP is a directory of cgroup2 with the memory controller in its cgroup.subtree_control, TMPFS one of a tmpfs, TRACING
 * is tracefs. The tracer is set up (docs/match.md) and off. Static, and without stdio in between, so that nothing but
 * what is written here allocates or closes.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOW = 3, FILES = 8, BETWEEN_US = 20000, REST_US = 1200000 };

static const char *cgroup, *tmpfs, *tracing;

static char *path(const char *directory, const char *name)
{
	static char text[2][4096];
	static int turn;

	turn = !turn;
	snprintf(text[turn], sizeof(text[turn]), "%s/%s", directory, name);
	return text[turn];
}

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err(1, "%s", file);
	close(fd);
}

static void mark(const char *text)
{
	put(path(tracing, "trace_marker"), text);
}

static char *file_name(int number)
{
	char name[16];

	snprintf(name, sizeof(name), "file%d", number);
	return path(tmpfs, name);
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

static void child(const char *job, int hold)
{
	int fds[FILES];

	run_on(1);
	put(path(job, "cgroup.procs"), "0");
	for (int i = 0; i < FILES; i++) {
		fds[i] = open(file_name(i), O_CREAT | O_RDWR, 0600);
		if (fds[i] < 0)
			err(1, "%s", file_name(i));
		if (i < SLOW)
			usleep(BETWEEN_US);
	}
	if (hold < 0)			/* create: whoever traces is through */
		put(path(tracing, "tracing_on"), "0");
	for (int i = 0; i < FILES; i++)
		close(fds[i]);
	usleep(BETWEEN_US);
	if (hold > 0)			/* the parent opens the last one meanwhile */
		usleep(REST_US);
	for (int i = 0; i < FILES - (hold > 0); i++)
		unlink(file_name(i));
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 5)
		errx(2, "usage: traced create|idle|held CGROUP TMPFS TRACING");
	int hold = !strcmp(argv[1], "held") ? 1 : !strcmp(argv[1], "create") ? -1 : 0;
	int held = -1, status;
	cgroup = argv[2], tmpfs = argv[3], tracing = argv[4];
	char *job = strdup(path(cgroup, "job"));

	run_on(0);
	if (hold < 0)
		put(path(tracing, "tracing_on"), "1");
	if (mkdir(job, 0755))
		err(1, "%s", job);
	pid_t pid = fork();
	if (!pid)
		child(job, hold);
	if (hold > 0) {
		usleep(REST_US / 2);
		held = open(file_name(FILES - 1), O_RDONLY);
	}
	waitpid(pid, &status, 0);
	if (status)
		errx(1, "the child failed");
	usleep(REST_US);
	if (hold < 0)
		return rmdir(job) != 0;

	put(path(tracing, "tracing_on"), "1");
	mark("rmdir-begin");
	if (rmdir(job))
		err(1, "%s", job);
	mark("rmdir-end");
	usleep(REST_US);
	if (held >= 0) {
		mark("release-begin");
		close(held);
		unlink(file_name(FILES - 1));
		mark("release-end");
		usleep(REST_US);
	}
	put(path(tracing, "tracing_on"), "0");
	return 0;
}

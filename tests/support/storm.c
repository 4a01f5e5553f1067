/*
 * Names that change under a tracer, and a log of each name and its time, with which storm.py compares.
 *
 *     storm processes LOG COUNT LONGEST FOLDER...   processes that send, of a few pids and of as many
 *                                           programs; a third of them stay for up to LONGEST us
 *     storm namespaces LOG COUNT NAME       network namespaces that are made, named, used and deleted
 *     storm renames LOG COUNT               renames of the loopback while packets pass it
 *     storm send SEQUENCE MOMENT [PROGRAM]  a program: sends, and becomes another program, which sends, too
 *
 * A packet is a datagram to 127.0.0.0/8 whose low 22 bits are its sequence number. All times are ns of
 * CLOCK_MONOTONIC. Lines of the log, which is descriptor 9 of all:
 *
 *     fork TIME PID            the moment before a process has this pid
 *     reap TIME PID            the moment after
 *     send TIME PID SEQUENCE COMM PROGRAM
 *     leave TIME PID           the moment before execve()
 *     namespace TIME SEQUENCE INODE NAME IFINDEX IFNAME
 *     rename TIME TIME IFNAME  before and after
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG 9
#define SLOTS 8			 /* processes at once, each of a pid of its own */
#define PROCESSES 0x7f400000u	 /* 127.64.0.0/10 */
#define NAMESPACES 0x7f800000u	 /* 127.128.0.0/10 */
#define RENAMES 0x7fc00000u	 /* 127.192.0.0/10 */
#define MAX_SEQUENCE (1u << 22)
#define PORT 9

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void sleep_us(long us)
{
	struct timespec time = { us / 1000000, us % 1000000 * 1000 };

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

static void send_to(int sender, uint32_t network, uint32_t sequence)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	to.sin_addr.s_addr = htonl(network | (sequence & (MAX_SEQUENCE - 1)));
	/* No socket there: the next sendto() may return the ICMP error. */
	if (sendto(sender, "", 0, 0, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != ECONNREFUSED)
		fail("sendto");
}

static int new_sender(void)
{
	int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sender < 0)
		fail("socket");
	return sender;
}

/* As the task that it is now. */
static void send_logged(uint32_t sequence)
{
	char comm[16] = "", program[4096] = "";
	int sender = new_sender();

	prctl(PR_GET_NAME, comm);
	if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
		fail("/proc/self/exe");
	dprintf(LOG, "send %lu %d %u %s %s\n", now(), getpid(), sequence, comm, program);
	send_to(sender, PROCESSES, sequence);
}

static int send_and_become(char **words, int count)
{
	uint32_t sequence = atoi(words[0]);
	char next[16];

	send_logged(sequence);
	sleep_us(atoi(words[1]));
	if (count > 2) {
		snprintf(next, sizeof(next), "%u", sequence + 1);
		dprintf(LOG, "leave %lu %d\n", now(), getpid());
		execl(words[2], words[2], "send", next, words[1], NULL);
		fail(words[2]);
	}
	return 0;
}

/* Forks to a pid; to any where it isn't free. */
static pid_t fork_to(pid_t pid)
{
	struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
	pid_t child = syscall(SYS_clone3, &args, sizeof(args));

	if (child < 0 && errno == EEXIST) {
		args.set_tid_size = 0;
		child = syscall(SYS_clone3, &args, sizeof(args));
	}
	if (child < 0)
		fail("clone3");
	return child;
}

static void be_child(uint32_t sequence, uint32_t longest, char **folders, int count)
{
	char program[4096], next[4096], number[16], moment[16], comm[16];
	uint32_t chance = sequence * 2654435761u;

	snprintf(program, sizeof(program), "%s/ns", folders[(chance >> 8) % count]);
	snprintf(next, sizeof(next), "%s/ns", folders[(chance >> 16) % count]);
	snprintf(number, sizeof(number), "%u", sequence);
	snprintf(moment, sizeof(moment), "%u", sequence % 3 ? 0 : (chance >> 12) % longest);
	switch (sequence / 2 % 4) {
	case 0:
		snprintf(comm, sizeof(comm), "n%u", sequence);
		prctl(PR_SET_NAME, comm);
		send_logged(sequence);
		sleep_us(atoi(moment));
		_exit(0);
	case 1:
		execl(program, program, "send", number, moment, next, NULL);
		break;
	default:
		execl(program, program, "send", number, moment, NULL);
	}
	fail(program);
}

/* Sequence numbers are even; a program that becomes another has the odd one behind it, too. */
static void processes(uint32_t count, uint32_t longest, char **folders, int folder_count)
{
	pid_t running[SLOTS] = {}, first = 0, child;
	int status, slot;

	/* Pids that are free now, next to each other. */
	first = fork_to(0x7000);
	if (!first)
		_exit(0);
	waitpid(first, NULL, 0);
	for (uint32_t made = 0; made < count; made++) {
		slot = made % SLOTS;
		if (running[slot]) {
			if (waitpid(running[slot], &status, 0) < 0 || status)
				fail("a process");
			dprintf(LOG, "reap %lu %d\n", now(), running[slot]);
		}
		uint64_t before = now();
		child = fork_to(first + slot);
		if (!child)
			be_child(2 * made, longest, folders, folder_count);
		dprintf(LOG, "fork %lu %d\n", before, child);
		running[slot] = child;
	}
	for (slot = 0; slot < SLOTS; slot++)
		if (running[slot] && waitpid(running[slot], NULL, 0) > 0)
			dprintf(LOG, "reap %lu %d\n", now(), running[slot]);
}

static void set_flags(int socket, const char *device, int up)
{
	struct ifreq request = {};

	strncpy(request.ifr_name, device, IFNAMSIZ - 1);
	if (ioctl(socket, SIOCGIFFLAGS, &request))
		fail("SIOCGIFFLAGS");
	request.ifr_flags = up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP;
	if (ioctl(socket, SIOCSIFFLAGS, &request))
		fail("SIOCSIFFLAGS");
}

/* Before Linux 6.2 a device has to be down for it. */
static void rename_device(int socket, const char *from, const char *to)
{
	struct ifreq request = {};

	strncpy(request.ifr_name, from, IFNAMSIZ - 1);
	strncpy(request.ifr_newname, to, IFNAMSIZ - 1);
	if (!ioctl(socket, SIOCSIFNAME, &request))
		return;
	if (errno != EBUSY)
		fail("SIOCSIFNAME");
	set_flags(socket, from, 0);
	if (ioctl(socket, SIOCSIFNAME, &request))
		fail("SIOCSIFNAME");
	set_flags(socket, to, 1);
}

/* Each has one of ten names, which are reused, as inodes are. */
static void namespaces(uint32_t count, const char *name)
{
	char path[4096], device[IFNAMSIZ];
	int ready[2];
	pid_t child;

	mkdir("/run/netns", 0755);
	for (uint32_t number = 0; number < count; number++) {
		snprintf(path, sizeof(path), "/run/netns/%s%u", name, number % 10);
		if (pipe(ready))
			fail("pipe");
		child = fork();
		if (child < 0)
			fail("fork");
		if (!child) { /* the mount must be visible outside: the process stays in its mount namespace */
			struct stat found;
			int sender, file = open(path, O_CREAT | O_RDONLY, 0444);

			if (file < 0)
				fail(path);
			close(file);
			if (unshare(CLONE_NEWNET))
				fail("unshare");
			if (mount("/proc/self/ns/net", path, "none", MS_BIND, NULL))
				fail("mount");
			sender = new_sender();
			snprintf(device, sizeof(device), "lo%u", number);
			rename_device(sender, "lo", device);
			set_flags(sender, device, 1);
			stat("/proc/self/ns/net", &found);
			dprintf(LOG, "namespace %lu %u %lu %s%u %u %s\n", now(), number, found.st_ino, name,
				number % 10, if_nametoindex(device), device);
			send_to(sender, NAMESPACES, number);
			if (number % 4 == 0) /* some stay a while */
				sleep_us(5000);
			_exit(0);
		}
		int status;

		close(ready[0]);
		close(ready[1]);
		if (waitpid(child, &status, 0) < 0 || status)
			fail("a namespace");
		if (umount2(path, MNT_DETACH) || unlink(path))
			fail(path);
	}
}

static volatile int ended;

static void *keep_sending(void *unused)
{
	int sender = new_sender();

	for (uint32_t sequence = 0; !ended; sequence++) {
		send_to(sender, RENAMES, sequence);
		sleep_us(200);
	}
	return unused;
}

static void renames(uint32_t count)
{
	char before[IFNAMSIZ] = "lo", after[32];
	int socket = new_sender();
	pthread_t thread;

	set_flags(socket, "lo", 1);
	if (pthread_create(&thread, NULL, keep_sending, NULL))
		fail("pthread_create");
	for (uint32_t number = 0; number < count; number++) {
		/* Names of any length, some of them reused. */
		snprintf(after, sizeof(after), "%.*s%u", (int)(number % 5 * 2), "averylong",
			 number % 7 ? number : 0);
		uint64_t begun = now();

		rename_device(socket, before, after);
		dprintf(LOG, "rename %lu %lu %s\n", begun, now(), after);
		strcpy(before, after);
		sleep_us(3000);
	}
	ended = 1;
	pthread_join(thread, NULL);
}

int main(int count, char **words)
{
	if (count >= 4 && !strcmp(words[1], "send"))
		return send_and_become(words + 2, count - 2);
	if (count < 4 || (!strcmp(words[1], "processes") && count < 6))
		return 2;
	int log = open(words[2], O_WRONLY | O_CREAT | O_APPEND, 0644);

	if (log < 0 || dup2(log, LOG) != LOG)
		fail(words[2]);
	if (log != LOG)
		close(log);
	if (!strcmp(words[1], "processes"))
		processes(atoi(words[3]), atoi(words[4]), words + 5, count - 5);
	else if (!strcmp(words[1], "namespaces"))
		namespaces(atoi(words[3]), words[4]);
	else if (!strcmp(words[1], "renames"))
		renames(atoi(words[3]));
	else
		return 2;
	return 0;
}

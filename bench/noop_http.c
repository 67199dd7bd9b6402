/* Owns the fastest answer to an HTTP request that a benchmark can get: the same 128 bytes, whatever is asked.

   Usage: noop_http THREADS    Prints one line of JSON with the port, ends when standard input does. Each thread has
   its own listening socket (SO_REUSEPORT) and its own epoll. Requests must have no body. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY = 128, EVENTS = 256, INPUT = 65536, MOST_PIPELINED = 64, MOST_FDS = 65536 };
static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Length: 128\r\nContent-Type: text/plain\r\n\r\n";
static const char END[] = "\r\n\r\n";
static char answers[MOST_PIPELINED * (sizeof HEAD - 1 + BODY)];
static const size_t answer_bytes = sizeof HEAD - 1 + BODY;
/* How much of END each connection's input ended with: a request may come in pieces. */
static unsigned char matched[MOST_FDS];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int listener(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t size = sizeof where;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&where, size) || listen(fd, 4096)) fail("listen");
    getsockname(fd, (struct sockaddr *)&where, &size);
    *port = ntohs(where.sin_port);
    return fd;
}

/* How many requests end in `input`. */
static size_t ends(int fd, const char *input, size_t size) {
    size_t count = 0, at = matched[fd];
    for (size_t i = 0; i < size; i++) {
        at = input[i] == END[at] ? at + 1 : (input[i] == '\r');
        if (at == 4) count++, at = 0;
    }
    matched[fd] = (unsigned char)at;
    return count;
}

static void serve(int fd) {
    static __thread char input[INPUT];
    ssize_t got = read(fd, input, sizeof input);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        close(fd);
        return;
    }
    for (size_t left = ends(fd, input, (size_t)got); left > 0;) {
        size_t now = left < MOST_PIPELINED ? left : MOST_PIPELINED;
        if (write(fd, answers, now * answer_bytes) != (ssize_t)(now * answer_bytes)) {
            close(fd); /* a client that does not read: none of ours */
            return;
        }
        left -= now;
    }
}

static void *loop(void *argument) {
    int listening = (int)(intptr_t)argument, epoll = epoll_create1(0), yes = 1;
    struct epoll_event events[EVENTS], one = {.events = EPOLLIN, .data.fd = listening};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &one);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != listening) {
                serve(fd);
                continue;
            }
            while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MOST_FDS) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                matched[fd] = 0;
                one.data.fd = fd;
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &one);
            }
        }
    }
    return NULL;
}

int main(int count, char **words) {
    int threads = count > 1 ? atoi(words[1]) : 1;
    uint16_t port = 0;
    char byte;
    for (size_t i = 0; i < MOST_PIPELINED; i++) {
        memcpy(answers + i * answer_bytes, HEAD, sizeof HEAD - 1);
        memset(answers + i * answer_bytes + sizeof HEAD - 1, 'x', BODY);
    }
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, loop, (void *)(intptr_t)listener(&port))) fail("thread");
    }
    printf("{\"port\": %u}\n", port);
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {}
    return 0;
}

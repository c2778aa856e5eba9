#include "mtpgen.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static void catch_interrupt(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = (int)SA_RESETHAND; /* a second Ctrl-C ends the program at once */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void mtpgen_signals_install(void)
{
    struct sigaction now;
    signal(SIGPIPE, SIG_IGN);
    /* A program started in the background with interrupts ignored goes on ignoring them. */
    if (sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
        catch_interrupt();
}

bool mtpgen_interrupted(void)
{
    return interrupted != 0;
}

void mtpgen_signals_again(void)
{
    if (interrupted == 0)
        return;
    interrupted = 0;
    catch_interrupt();
}

enum mtp_status mtpgen_check_streams(struct mtp_error *error)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) != -1 || errno != EBADF)
            continue;
        /* Lower numbers are open by now, so this one is what open gives. */
        int opened = open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY);
        if (opened != fd)
            return mtpgen_fail(error, MTP_ERR_IO, "/dev/null cannot be opened: %s",
                               strerror(errno));
        if (fd == STDOUT_FILENO)
            return mtpgen_fail(error, MTP_ERR_IO,
                               "standard output is closed: there is nowhere to write to");
    }
    return MTP_OK;
}

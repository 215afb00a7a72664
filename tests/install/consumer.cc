// consumer.cc - the same as consumer.c for a C++ program: the public header is
// C++ too, its calls link as C, and a lambda will do where it wants a function.
#include <clustertalk.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

namespace
{
const int patience_ms = 30000;

struct Close {
    void operator() (ctalk_server_t *server) const
    {
        ctalk_server_close (&server, patience_ms);
    }
};
using Server = std::unique_ptr<ctalk_server_t, Close>;

int fail (const char *what)
{
    std::perror (what);
    return 1;
}
} // namespace

int main (int argc, char **argv)
{
    if (argc != 2 || std::string (argv[1]) != ctalk_version ())
        return fail ("not the version that pkg-config says");

    ctalk_error_t error = {};
    ctalk_config_t *config = ctalk_config_new ();
    if (!config || ctalk_config_add_server (config, 1, "127.0.0.1:*", &error) != 0
        || ctalk_config_add_server (config, 2, "127.0.0.1:*", &error) != 0)
        return fail ("config");
    Server one (ctalk_server_new (1, config, &error));
    Server two (ctalk_server_new (2, config, &error));
    ctalk_config_destroy (&config);
    if (!one || !two)
        return fail (error.text);
    if (ctalk_server_add_peer (one.get (), 2, ctalk_server_endpoint (two.get ())) != 0
        || ctalk_server_add_peer (two.get (), 1, ctalk_server_endpoint (one.get ())) != 0)
        return fail ("ctalk_server_add_peer");

    std::string text (10000, 'x');
    bool freed = false;
    ctalk_envelope_t out = {};
    out.pid = CTALK_BROADCAST;
    out.data = text.data ();
    out.size = text.size ();
    if (ctalk_send_owned (
            one.get (), &out, [] (void *, void *hint) { *static_cast<bool *> (hint) = true; }, &freed, patience_ms)
        != 0)
        return fail ("ctalk_send_owned");
    ctalk_envelope_t in;
    if (ctalk_recv (two.get (), &in, patience_ms) != 0)
        return fail ("ctalk_recv");
    bool same = in.pid == 1 && in.size == text.size () && std::memcmp (in.data, text.data (), in.size) == 0;
    ctalk_envelope_close (&in);
    one.reset ();
    return same && freed ? 0 : fail ("not the envelope that was sent, or it was not freed");
}

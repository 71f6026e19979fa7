/*
 * Small parts of the network backends: the queue of frames, and what the keys mean.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/net_frames.h"
#include "devices/backend/net_user_impl.h"
#include "devices/registry.h"
#include "tests/unit/test_virtio_rig.h"

/* ---- frames ---------------------------------------------------------------------------------- */

/* Random puts and drops: what comes out is what went in, in order, and no more is taken than fits.
 */
Test(net_frames, come_out_as_they_went_in)
{
	static const size_t space[] = { 64, 4096, 10000 };

	for (unsigned s = 0; s < 3; s++) {
		struct net_frames f;
		uint64_t random = s, in = 0, out = 0, refused = 0;

		cr_assert_eq(net_frames_init(&f, space[s]), 0);
		for (unsigned i = 0; i < 20000; i++) {
			uint8_t frame[2000];
			const uint8_t *got;
			size_t len;

			if (model_random(&random) % 2) {
				uint64_t seed = in;

				len = model_random(&seed) % (space[s] < 2000 ? 40 : 2000);
				memset(frame, (int)in, len);
				if (net_frames_put(&f, frame, len))
					in++;
				else
					refused++;
			} else {
				uint64_t seed = out;

				got = net_frames_peek(&f, &len);
				cr_assert_eq(!got, in == out);
				if (!got)
					continue;
				cr_assert_eq(len,
					     model_random(&seed) % (space[s] < 2000 ? 40 : 2000));
				for (size_t b = 0; b < len; b++)
					cr_assert_eq(got[b], (uint8_t)out);
				net_frames_drop(&f);
				out++;
			}
			cr_assert_eq(f.count, in - out);
			cr_assert_leq(f.used, f.size);
		}
		cr_assert_gt(out, 1000);
		cr_assert(refused > 0);
		net_frames_destroy(&f);
	}
}

Test(net_frames, a_frame_longer_than_the_ring_is_refused)
{
	static uint8_t frame[200];
	struct net_frames f;
	size_t len;

	cr_assert_eq(net_frames_init(&f, 100), 0);
	cr_assert_not(net_frames_put(&f, frame, 200));
	cr_assert_not(net_frames_put(&f, frame, 97));
	cr_assert(net_frames_put(&f, frame, 96));
	cr_assert_not(net_frames_put(&f, frame, 0));
	cr_assert_not_null(net_frames_peek(&f, &len));
	net_frames_drop(&f);
	net_frames_drop(&f); /* of an empty one: nothing */
	cr_assert_null(net_frames_peek(&f, &len));
	net_frames_destroy(&f);
}

/* ---- net= ------------------------------------------------------------------------------------ */

static bool is_address(struct in_addr in, const char *text)
{
	char buf[INET_ADDRSTRLEN];

	return strcmp(inet_ntop(AF_INET, &in, buf, sizeof(buf)), text) == 0;
}

Test(net_user_options, network)
{
	static const char *const wrong[] = {
		"10.0.2.0",
		"10.0.2.0/",
		"10.0.2.0/7",
		"10.0.2.0/28",
		"10.0.2.1/24",
		"/24",
		"10.0.2/24",
		"10.0.2.0/24x",
		"x/24",
		"10.0.2.0/-8",
		"300.0.0.0/8",
		"10.0.2.0/ 24",
		"",
		"255.255.255.255.255/24",
	};
	struct user_network net;
	struct error e;

	cr_assert_eq(user_parse_network(NULL, &net, &e), 0);
	cr_assert(is_address(net.net, "10.0.2.0") && is_address(net.mask, "255.255.255.0"));
	cr_assert(is_address(net.host, "10.0.2.2") && is_address(net.dns, "10.0.2.3") &&
		  is_address(net.dhcp, "10.0.2.15"));
	cr_assert_eq(user_parse_network("192.168.7.32/27", &net, &e), 0);
	cr_assert(is_address(net.host, "192.168.7.34") && is_address(net.dhcp, "192.168.7.47"));
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_assert_eq(user_parse_network(wrong[i], &net, &e), -EINVAL, "%s", wrong[i]);
		cr_assert(strstr(e.msg, "net="), "%s", e.msg);
	}
}

/* ---- hostfwd= -------------------------------------------------------------------------------- */

Test(net_user_options, forwards)
{
	static const char *const wrong[] = {
		"tcp",	       "tcp::2222",	 "tcp:2222-:22",    "icmp::1-:1",
		"tcp::0-:22",  "tcp::65536-:22", "tcp::2222-:22:1", "tcp::2222-:22+",
		"tcp:x:1-:22", "tcp::2222--:22", "+tcp::2222-:22",  "tcp::2222-22",
		"tcp:::1-:22", "tcp::22 -:22",	 "tcp::2222-:22+x", "tcp::-1-:22",
	};
	const char *at = "tcp::2222-:22+udp:0.0.0.0:53-10.0.2.15:5353";
	struct user_forward f;
	struct error e;

	cr_assert_eq(user_parse_forward(&at, &f, &e), 1);
	cr_assert(!f.udp && f.host_port == 2222 && f.guest_port == 22 && f.guest.s_addr == 0);
	cr_assert(is_address(f.host, "127.0.0.1"), "not open to the world unless asked for");
	cr_assert_eq(user_parse_forward(&at, &f, &e), 1);
	cr_assert(f.udp && f.host_port == 53 && f.guest_port == 5353);
	cr_assert(is_address(f.host, "0.0.0.0") && is_address(f.guest, "10.0.2.15"));
	cr_assert_eq(user_parse_forward(&at, &f, &e), 0);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int err;

		at = wrong[i];
		while ((err = user_parse_forward(&at, &f, &e)) > 0)
			continue;
		cr_assert_eq(err, -EINVAL, "%s", wrong[i]);
		cr_assert(strstr(e.msg, "tcp::2222-:22"), "%s", e.msg);
	}
}

/* ---- flags ----------------------------------------------------------------------------------- */

Test(net_flag, mac)
{
	static const char *const wrong[] = {
		"mac=52:54:00:12:34",	  "mac=52-54-00-12-34-56", "mac=52:54:00:12:34:5",
		"mac=53:54:00:12:34:56",  "mac=00:00:00:00:00:00", "mac=ff:ff:ff:ff:ff:ff",
		"mac=52:54:00:12:34:567", "mac=5 :54:00:12:34:56", "mac=+2:54:00:12:34:56",
	};
	struct device_config config;
	uint8_t mac[6];
	struct error e;

	vrig_config(&config, &row_virtio_net, NULL, "");
	config.index = 3;
	cr_assert_eq(net_flag_mac(&config, mac, &e), 0);
	cr_assert_arr_eq(mac, "\x52\x54\x00\x6d\x76\x03", 6);
	vrig_config_free(&config);
	vrig_config(&config, &row_virtio_net, NULL, "mac=02:aB:00:0f:f0:9c");
	cr_assert_eq(net_flag_mac(&config, mac, &e), 0);
	cr_assert_arr_eq(mac, "\x02\xab\x00\x0f\xf0\x9c", 6);
	vrig_config_free(&config);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		vrig_config(&config, &row_virtio_net, NULL, wrong[i]);
		cr_assert_eq(net_flag_mac(&config, mac, &e), -EINVAL, "%s", wrong[i]);
		vrig_config_free(&config);
	}
}

/* What cannot be is refused with a way out, and leaves nothing behind. */
Test(net_flag, refused)
{
	static const struct {
		const char *target, *keys, *says;
	} wrong[] = {
		{ "user", "queues=2", "one queue" },
		{ NULL, "queues=2", "a tap can have several" },
		{ "tap7", "hostfwd=tcp::2222-:22", "belong to the target" },
		{ "tap7", "restrict=on", "belong to the target" },
		{ "/dev/net/tun", "", "targets are" },
		{ "a-name-that-is-far-too-long", "", "15 characters" },
		{ "fd:", "", "no list" },
		{ "fd:x", "", "no list" },
		{ "fd:3:", "", "not a tap" },
		{ "fd:-1", "", "no list" },
		{ "fd:999", "", "no such descriptor" },
		{ "fd:0", "", "not a tap" },
		{ "user", "net=10.0.2.5/24", "has bits" },
		{ "user", "hostfwd=tcp:22", "tcp::2222-:22" },
		{ "user", "hostfwd=tcp::2222-10.9.9.9:22", "not in the guest's network" },
		{ "user", "mac=1:2:3", "52:54:00" },
	};
	struct vrig *r = vrig_create();
	struct device *dev = NULL;
	struct error e;

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct device_config config;

		vrig_config(&config, &row_virtio_net, wrong[i].target, wrong[i].keys);
		cr_assert_lt(row_virtio_net.create(&r->host, &config, &dev, &e), 0, "%s,%s",
			     wrong[i].target, wrong[i].keys);
		cr_assert(strstr(e.msg, wrong[i].says), "%s: %s", wrong[i].target, e.msg);
		cr_assert_null(dev);
		vrig_config_free(&config);
	}
	vrig_destroy(r);
}

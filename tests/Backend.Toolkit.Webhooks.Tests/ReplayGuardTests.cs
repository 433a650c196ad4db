using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Tests;

public sealed class ReplayGuardTests
{
    private static readonly TimeSpan Lease = TimeSpan.FromMinutes(5);

    private readonly FakeTimeProvider _time = Sample.Time();

    private WebhookReplayGuard Guard(Action<WebhookReplayGuardOptions>? configure = null, LogList? log = null)
    {
        var options = new WebhookReplayGuardOptions { Name = "guard" };
        configure?.Invoke(options);
        return new WebhookReplayGuard(options, _time, log);
    }

    private WebhookMessage Message(WebhookScheme scheme, string id = Sample.Id, byte[]? body = null, string name = "test")
    {
        WebhookVerifierOptions options = Sample.VerifierOptions(scheme, Sample.Secret);
        options.Name = name;
        new WebhookVerifier(options, _time).Verify(Sample.Signer(scheme, _time, Sample.Secret).Signed(body ?? Sample.Body, id), Headers.Read, body ?? Sample.Body, out WebhookMessage message)
            .Should().Be(WebhookVerification.Valid);
        return message;
    }

    private static WebhookReplayKey Key(byte number) => new([.. new byte[31], number]);

    [Fact]
    public async Task A_message_is_handled_once()
    {
        WebhookReplayGuard guard = Guard();
        WebhookMessage message = Message(WebhookScheme.StandardWebhooks);

        WebhookReservation first = await guard.ReserveAsync(message);
        WebhookReservation meanwhile = await guard.ReserveAsync(message);
        bool committed = await first.CommitAsync();
        WebhookReservation after = await guard.ReserveAsync(message);

        (first.Status, meanwhile.Status, meanwhile.RetryAfter, committed, after.Status).Should()
            .Be((WebhookReservationStatus.Reserved, WebhookReservationStatus.InProgress, Lease, true, WebhookReservationStatus.Committed));
    }

    [Fact]
    public async Task What_failed_is_released_and_handled_again()
    {
        WebhookReplayGuard guard = Guard();
        WebhookReservation first = await guard.ReserveAsync(Key(1));

        bool released = await first.ReleaseAsync();
        WebhookReservation second = await guard.ReserveAsync(Key(1));

        (released, second.Status, await first.CommitAsync(), await first.ReleaseAsync(), await second.CommitAsync()).Should().Be((true, WebhookReservationStatus.Reserved, false, false, true));
    }

    [Fact]
    public async Task A_handler_that_died_is_followed_after_its_lease_and_cannot_commit_any_more()
    {
        WebhookReplayGuard guard = Guard();
        WebhookReservation dead = await guard.ReserveAsync(Key(1));
        _time.Advance(Lease - TimeSpan.FromTicks(1));
        WebhookReservation early = await guard.ReserveAsync(Key(1));
        _time.Advance(TimeSpan.FromTicks(1));

        WebhookReservation next = await guard.ReserveAsync(Key(1));

        (early.Status, early.RetryAfter, next.Status).Should().Be((WebhookReservationStatus.InProgress, TimeSpan.FromTicks(1), WebhookReservationStatus.Reserved));
        (await dead.CommitAsync(), await dead.ReleaseAsync(), await next.CommitAsync(), await next.CommitAsync(), await next.ReleaseAsync()).Should().Be((false, false, true, true, false));
    }

    [Fact]
    public async Task A_slow_handler_whom_nobody_followed_commits_after_its_lease()
    {
        WebhookReplayGuard guard = Guard();
        WebhookReservation slow = await guard.ReserveAsync(Key(1));
        _time.Advance(2 * Lease);

        bool committed = await slow.CommitAsync();

        (committed, (await guard.ReserveAsync(Key(1))).Status).Should().Be((true, WebhookReservationStatus.Committed));
    }

    [Theory]
    [InlineData("StandardWebhooks", 80 * 3600)]
    [InlineData("GitHub", 80 * 3600)]
    [InlineData("Shopify", 80 * 3600)]
    [InlineData("Stripe", 601)]
    [InlineData("Slack", 601)]
    public async Task It_remembers_as_long_as_the_same_message_could_come_again(string scheme, int seconds)
    {
        WebhookReplayGuard guard = Guard();
        WebhookMessage message = Message(Sample.Schemes.Single(one => one.Name == scheme));
        await (await guard.ReserveAsync(message)).CommitAsync();
        _time.Advance(TimeSpan.FromSeconds(seconds) - TimeSpan.FromTicks(1));
        WebhookReservation before = await guard.ReserveAsync(message);
        _time.Advance(TimeSpan.FromTicks(1));

        WebhookReservation after = await guard.ReserveAsync(message);

        (before.Status, after.Status).Should().Be((WebhookReservationStatus.Committed, WebhookReservationStatus.Reserved));
    }

    /// <summary>However short the retry window is, and the lease long.</summary>
    [Theory]
    [InlineData(1, 1, 601)]
    [InlineData(1, 700, 700)]
    [InlineData(700, 800, 800)]
    public async Task It_remembers_at_least_as_long_as_the_message_is_accepted_and_the_lease_runs(int lease, int retryWindow, int expected)
    {
        var asked = new List<TimeSpan>();
        var store = new WebhookReplayStore
        {
            Reserve = (request, _) =>
            {
                asked.Add(request.KeepFor);
                return new(new WebhookReplayAnswer(WebhookReservationStatus.Reserved, 1));
            },
            Commit = (_, _, _, _) => new(true),
            Release = (_, _, _) => new(true),
        };
        WebhookReplayGuard guard = Guard(o => (o.Lease, o.RetryWindow, o.Store) = (TimeSpan.FromSeconds(lease), TimeSpan.FromSeconds(retryWindow), store));
        WebhookMessage Message(WebhookScheme scheme)
        {
            Sample.Verifier(scheme, _time, Sample.Secret).Verify(Sample.Signer(scheme, _time, Sample.Secret).Signed(Sample.Body), Headers.Read, Sample.Body, out WebhookMessage message);
            return message;
        }

        await guard.ReserveAsync(Message(WebhookScheme.StandardWebhooks));
        await guard.ReserveAsync(Message(WebhookScheme.Stripe));

        asked.Should().Equal(TimeSpan.FromSeconds(expected), TimeSpan.FromSeconds(Math.Max(601, lease)));
    }

    [Fact]
    public void A_chosen_id_and_a_signed_one_are_not_the_same_message()
    {
        Sample.Verifier(WebhookScheme.StandardWebhooks, _time, Sample.Secret)
            .Verify(Sample.Signer(WebhookScheme.StandardWebhooks, _time, Sample.Secret).Signed(Sample.Body), Headers.Read, Sample.Body, out WebhookMessage message);

        message.ReplayKeyOf(Sample.Id).Should().NotBe(message.ReplayKey);
    }

    /// <summary>Accepted at the first instant and replayed at the last, however the clock stands within a second.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(999)]
    public async Task A_replay_is_stale_before_it_is_forgotten(int milliseconds)
    {
        WebhookReplayGuard guard = Guard(o => o.Lease = TimeSpan.FromSeconds(1));
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.Stripe, _time, Sample.Secret);
        Headers headers = Sample.Signer(WebhookScheme.Stripe, _time, Sample.Secret).Signed(Sample.Body, timestamp: Sample.Now.AddSeconds(300));
        _time.Advance(TimeSpan.FromMilliseconds(milliseconds));
        var accepted = 0;

        for (int i = 0; i < 700; i++)
        {
            if (verifier.Verify(headers, Headers.Read, Sample.Body, out WebhookMessage message) == WebhookVerification.Valid)
            {
                WebhookReservation reservation = await guard.ReserveAsync(message);
                accepted += reservation.Status == WebhookReservationStatus.Reserved ? 1 : 0;
                _ = reservation.Status == WebhookReservationStatus.Reserved && await reservation.CommitAsync();
            }

            _time.Advance(TimeSpan.FromSeconds(1));
        }

        accepted.Should().Be(1);
    }

    [Fact]
    public void A_key_is_of_what_was_signed()
    {
        byte[] other = [.. Sample.Body, 1];

        Message(WebhookScheme.StandardWebhooks).ReplayKey.Should().Be(Message(WebhookScheme.StandardWebhooks, body: other).ReplayKey, "the id is signed, and an attempt may differ")
            .And.NotBe(Message(WebhookScheme.StandardWebhooks, "msg_other").ReplayKey)
            .And.NotBe(Message(WebhookScheme.StandardWebhooks, name: "another").ReplayKey, "another verifier has not seen it");
        foreach (WebhookScheme unsigned in new[] { WebhookScheme.GitHub, WebhookScheme.Shopify })
        {
            Message(unsigned).ReplayKey.Should().Be(Message(unsigned, "another-id").ReplayKey, "anybody can change the id").And.NotBe(Message(unsigned, body: other).ReplayKey);
            (Message(unsigned).Id, Message(unsigned).IsIdSigned, Message(unsigned).Timestamp, Message(unsigned).ReplayWindow).Should().Be((Sample.Id, false, null, null));
        }

        WebhookMessage stripe = Message(WebhookScheme.Stripe);
        _time.Advance(TimeSpan.FromSeconds(1));
        WebhookMessage again = Message(WebhookScheme.Stripe);
        again.ReplayKey.Should().NotBe(stripe.ReplayKey, "it was signed anew");
        again.ReplayKeyOf("evt_1").Should().Be(stripe.ReplayKeyOf("evt_1")).And.NotBe(stripe.ReplayKeyOf("evt_2"));
    }

    /// <summary>While two keys overlap, the sender's list has two valid signatures; who replays one of them alone has not made another message.</summary>
    [Fact]
    public void A_part_of_a_list_is_the_same_message()
    {
        const string second = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        Headers headers = Sample.Signer(WebhookScheme.Stripe, _time, Sample.Secret, second).Signed(Sample.Body);
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.Stripe, _time, Sample.Secret, second);
        string[] entries = headers["Stripe-Signature"].Split(',');
        var keys = new HashSet<WebhookReplayKey>();

        foreach (string list in new[] { $"{entries[0]},{entries[1]}", $"{entries[0]},{entries[2]}", $"{entries[2]},{entries[1]},{entries[0]}" })
        {
            headers["Stripe-Signature"] = list;
            verifier.Verify(headers, Headers.Read, Sample.Body, out WebhookMessage message).Should().Be(WebhookVerification.Valid);
            keys.Add(message.ReplayKey);
            using WebhookSession session = verifier.Begin(headers, Headers.Read);
            session.Append(Sample.Body);
            session.Finish(out message);
            keys.Add(message.ReplayKey);
        }

        keys.Should().ContainSingle();
    }

    [Fact]
    public async Task A_message_that_was_not_verified_reserves_nothing()
    {
        WebhookReplayGuard guard = Guard();
        Func<Task> reserve = async () => await guard.ReserveAsync(default(WebhookMessage));
        Func<Task> commit = async () => await default(WebhookReservation).CommitAsync();

        await reserve.Should().ThrowAsync<InvalidOperationException>();
        await commit.Should().ThrowAsync<InvalidOperationException>();
        default(WebhookReservation).Status.Should().NotBe(WebhookReservationStatus.Reserved);
        guard.Count.Should().Be(0);
    }

    [Fact]
    public async Task Full_it_refuses_new_ones_and_forgets_none()
    {
        var log = new LogList();
        WebhookReplayGuard guard = Guard(o => o.MaxKeys = 2, log);
        await (await guard.ReserveAsync(Key(1))).CommitAsync();
        WebhookReservation second = await guard.ReserveAsync(Key(2));

        WebhookReservation[] more = [await guard.ReserveAsync(Key(3)), await guard.ReserveAsync(Key(4)), await guard.ReserveAsync(Key(1)), await guard.ReserveAsync(Key(2))];
        await second.ReleaseAsync();
        WebhookReservation room = await guard.ReserveAsync(Key(3));

        more.Select(one => one.Status).Should().Equal(WebhookReservationStatus.Full, WebhookReservationStatus.Full, WebhookReservationStatus.Committed, WebhookReservationStatus.InProgress);
        room.Status.Should().Be(WebhookReservationStatus.Reserved);
        log.Entries.Should().ContainSingle().Which.Message.Should().StartWith("Webhook replay guard 'guard' is full of 2 messages that must not be forgotten");
        _time.Advance(TimeSpan.FromHours(80));
        (await guard.ReserveAsync(Key(5))).Status.Should().Be(WebhookReservationStatus.Reserved);
        guard.Count.Should().Be(1);
    }

    [Fact]
    public async Task New_numbers_keep_what_was_seen()
    {
        WebhookReplayGuard guard = Guard(o => o.MaxKeys = 1);
        await (await guard.ReserveAsync(Key(1))).CommitAsync();

        guard.Update(new WebhookReplayGuardOptions { MaxKeys = 2 });

        ((await guard.ReserveAsync(Key(1))).Status, (await guard.ReserveAsync(Key(2))).Status).Should().Be((WebhookReservationStatus.Committed, WebhookReservationStatus.Reserved));
    }

    [Fact]
    public async Task A_store_is_asked_with_durations_and_its_failure_is_the_guards()
    {
        var asked = new List<string>();
        WebhookReplayGuard guard = Guard(o => o.Store = new WebhookReplayStore
        {
            Reserve = (request, _) =>
            {
                asked.Add($"reserve {request.Key == Key(1)} {request.Lease} {request.KeepFor}");
                return request.Key == Key(2) ? throw new IOException("down") : new(new WebhookReplayAnswer(WebhookReservationStatus.Reserved, 7));
            },
            Commit = (key, fence, keepFor, _) =>
            {
                asked.Add($"commit {fence} {keepFor}");
                return new(true);
            },
            Release = (key, fence, _) =>
            {
                asked.Add($"release {fence}");
                return new(false);
            },
        });
        Func<Task> down = async () => await guard.ReserveAsync(Key(2));

        WebhookReservation reservation = await guard.ReserveAsync(Key(1));
        await reservation.CommitAsync();
        await reservation.ReleaseAsync();

        asked.Should().Equal("reserve True 00:05:00 3.08:00:00", "commit 7 3.08:00:00", "release 7");
        await down.Should().ThrowAsync<IOException>();
        guard.Count.Should().Be(0);
    }

    [Fact]
    public async Task Of_many_at_once_one_reserves()
    {
        WebhookReplayGuard guard = Guard();
        for (byte round = 0; round < 50; round++)
        {
            WebhookReplayKey key = Key(round);

            WebhookReservation[] all = await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Task.Run(async () => await guard.ReserveAsync(key))));

            all.Count(one => one.Status == WebhookReservationStatus.Reserved).Should().Be(1);
            all.Count(one => one.Status == WebhookReservationStatus.InProgress).Should().Be(15);
        }
    }

    private enum Step
    {
        Reserve,
        Commit,
        Release,
        Wait,
    }

    /// <summary>Against what it should do, kept in the plainest way.</summary>
    [Fact]
    public void It_does_what_a_plain_list_of_records_would() => Gen.Select(Gen.Int[1, 3], Gen.Select(Gen.Enum<Step>(), Gen.Byte[0, 3], Gen.Int[0, 7]).Array[1, 60]).Sample((most, steps) =>
    {
        var time = new FakeTimeProvider(Sample.Now);
        var guard = new WebhookReplayGuard(new WebhookReplayGuardOptions { MaxKeys = most, Lease = TimeSpan.FromSeconds(5), RetryWindow = TimeSpan.FromSeconds(20) }, time);
        var model = new Dictionary<byte, (int Owner, bool Committed, int LeaseEnd, int Expiry)>();
        var reservations = new List<(WebhookReservation Reservation, byte Key)>();
        int now = 0;
        foreach ((Step step, byte key, int number) in steps)
        {
            if (step == Step.Wait)
            {
                now += number;
                time.Advance(TimeSpan.FromSeconds(number));
            }
            else if (step == Step.Reserve)
            {
                foreach (byte expired in model.Where(record => record.Value.Expiry <= now).Select(record => record.Key).ToArray())
                {
                    model.Remove(expired);
                }

                WebhookReservationStatus expected = model.TryGetValue(key, out var record)
                    ? record.Committed ? WebhookReservationStatus.Committed : record.LeaseEnd > now ? WebhookReservationStatus.InProgress : WebhookReservationStatus.Reserved
                    : model.Count < most ? WebhookReservationStatus.Reserved : WebhookReservationStatus.Full;
                WebhookReservation reservation = guard.ReserveAsync(Key(key)).Result;
                if (reservation.Status != expected || reservation.RetryAfter != TimeSpan.FromSeconds(expected == WebhookReservationStatus.InProgress ? record.LeaseEnd - now : 0))
                {
                    return false;
                }

                if (expected == WebhookReservationStatus.Reserved)
                {
                    model[key] = (reservations.Count, false, now + 5, now + 20);
                    reservations.Add((reservation, key));
                }
            }
            else if (reservations.Count > 0)
            {
                int owner = number % reservations.Count;
                (WebhookReservation reservation, byte of) = reservations[owner];
                bool owns = model.TryGetValue(of, out var record) && record.Owner == owner;
                if (step == Step.Commit)
                {
                    if (reservation.CommitAsync().Result != owns)
                    {
                        return false;
                    }

                    model[of] = owns ? record with { Committed = true, Expiry = record.Committed ? record.Expiry : now + 20 } : record;
                    _ = owns || record != default || model.Remove(of);
                }
                else
                {
                    if (reservation.ReleaseAsync().Result != (owns && !record.Committed))
                    {
                        return false;
                    }

                    _ = owns && !record.Committed && model.Remove(of);
                }
            }
        }

        return guard.Count == model.Count;
    }, iter: 10_000);
}

using System.Buffers;
using System.Security.Cryptography;

namespace Backend.Toolkit.Webhooks.Tests;

/// <remarks>Whoever listens to the meter makes everybody's calls cost memory.</remarks>
[Collection("The meter")]
public sealed class AllocationTests
{
    public static TheoryData<string, int> Cases => [.. Sample.Schemes.SelectMany(scheme => new[] { 0, 256, 20_480, 1 << 20 }.Select(length => (scheme.Name, length)))];

    private static long Measure(Action action)
    {
        for (int i = 0; i < 20; i++)
        {
            action();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 20; i++)
        {
            action();
        }

        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    private static void Require(bool met)
    {
        if (!met)
        {
            throw new InvalidOperationException();
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Verifying_and_signing_allocate_nothing_at_any_size(string name, int length)
    {
        WebhookScheme scheme = Sample.Schemes.Single(one => one.Name == name);
        byte[] body = RandomNumberGenerator.GetBytes(length);
        ReadOnlySequence<byte> segments = Sample.Segmented(body, 4096);
        WebhookSigner signer = Sample.Signer(scheme, TimeProvider.System, Sample.Secret, WebhookKey.NewSecret());
        WebhookVerifier verifier = Sample.Verifier(scheme, TimeProvider.System, Sample.Secret, WebhookKey.NewSecret());
        Headers headers = signer.Signed(body);
        Headers forged = Sample.Signer(scheme, TimeProvider.System, WebhookKey.NewSecret()).Signed(body);
        int written = 0;
        WebhookHeaderWriter<AllocationTests> write = (_, _, value) => written += value.Length;

        long allocated = Measure(() =>
        {
            Require(verifier.Verify(headers, Headers.Read, body, out WebhookMessage message) == WebhookVerification.Valid);
            Require(message.ReplayKey != default);
            Require(verifier.Verify(headers, Headers.Read, segments) == WebhookVerification.Valid);
            Require(verifier.Verify(forged, Headers.Read, body) == WebhookVerification.BadSignature);
            using WebhookSession session = verifier.Begin(headers, Headers.Read);
            foreach (ReadOnlyMemory<byte> piece in segments)
            {
                session.Append(piece.Span);
            }

            Require(session.Finish() == WebhookVerification.Valid);
            signer.Sign(this, write, Sample.Id, body);
        });

        allocated.Should().Be(0);
        written.Should().BePositive();
    }

    [Fact]
    public void A_refusal_allocates_nothing()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.StandardWebhooks, Sample.Time(), Sample.Secret);
        Headers[] bad =
        [
            [], Sample.Standard(new string('v', 1 << 20)), Sample.Standard(string.Join(' ', Enumerable.Repeat("v1,x", 1000))), Sample.Standard("v1,x", "a.b"), Sample.Standard("v1," + new string('A', 43) + "=", timestamp: "1"),
        ];

        long allocated = Measure(() =>
        {
            foreach (Headers headers in bad)
            {
                Require(verifier.Verify(headers, Headers.Read, Sample.Body) != WebhookVerification.Valid);
            }
        });

        allocated.Should().Be(0);
    }

    [Fact]
    public async Task A_reservation_in_memory_of_what_was_seen_allocates_nothing()
    {
        var guard = new WebhookReplayGuard(new WebhookReplayGuardOptions());
        var key = new WebhookReplayKey(new byte[32]);
        Require(await (await guard.ReserveAsync(key)).CommitAsync());

        long allocated = Measure(() => Require(guard.ReserveAsync(key).Result.Status == WebhookReservationStatus.Committed));

        allocated.Should().Be(0);
    }

    [Fact]
    public async Task A_message_in_memory_costs_as_much_as_is_published()
    {
        const int keys = 100_000;
        var guard = new WebhookReplayGuard(new WebhookReplayGuardOptions { MaxKeys = keys });
        long before = GC.GetTotalMemory(forceFullCollection: true);

        for (int i = 0; i < keys; i++)
        {
            Require(await (await guard.ReserveAsync(new WebhookReplayKey(RandomNumberGenerator.GetBytes(32)))).CommitAsync());
        }

        double each = (GC.GetTotalMemory(forceFullCollection: true) - before) / (double)keys;
        guard.Count.Should().Be(keys);
        each.Should().BeInRange(180, 260, "the README says 220");
    }
}

using System.Buffers;
using System.Security.Cryptography;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Ed25519.Tests;

/// <summary>The same signers and verifiers, with the other kind of key.</summary>
public sealed class WebhookTests
{
    private const string Id = "msg_1";

    private readonly FakeTimeProvider _time = new(DateTimeOffset.FromUnixTimeSeconds(1614265330));
    private readonly (string PrivateKey, string PublicKey) _pair = Ed25519WebhookKey.NewPair();

    private WebhookSigner Signer(params string[] secrets)
    {
        var options = new WebhookSignerOptions { Name = "signer" };
        options.UseEd25519();
        Array.ForEach(secrets, secret => options.Keys.Add(new WebhookKey(secret)));
        return new WebhookSigner(options, _time);
    }

    private WebhookVerifier Verifier(params string[] secrets)
    {
        var options = new WebhookVerifierOptions { Name = "verifier" };
        options.UseEd25519();
        Array.ForEach(secrets, secret => options.Keys.Add(new WebhookKey(secret)));
        return new WebhookVerifier(options, _time);
    }

    private static Headers Sign(WebhookSigner signer, byte[] body)
    {
        var headers = new Headers();
        signer.Sign(headers, Headers.Write, Id, body);
        return headers;
    }

    [Fact]
    public void Any_bytes_are_verified_in_one_piece_in_segments_and_as_they_come()
    {
        WebhookSigner signer = Signer(_pair.PrivateKey);
        WebhookVerifier verifier = Verifier(Ed25519WebhookKey.NewPair().PublicKey, _pair.PublicKey);
        foreach (int length in new[] { 0, 1, 4096, 300_000 })
        {
            byte[] body = RandomNumberGenerator.GetBytes(length), other = [.. body, 0];
            Headers headers = Sign(signer, body);
            WebhookVerification InPieces(byte[] bytes)
            {
                using WebhookSession session = verifier.Begin(headers, Headers.Read);
                foreach (byte[] piece in bytes.Chunk(1000))
                {
                    session.Append(piece);
                }

                return session.Finish(out WebhookMessage message) == WebhookVerification.Valid && message.Id == Id ? WebhookVerification.Valid : WebhookVerification.BadSignature;
            }

            headers["webhook-signature"].Should().StartWith("v1a,");
            verifier.Verify(headers, Headers.Read, body).Should().Be(WebhookVerification.Valid);
            verifier.Verify(headers, Headers.Read, new ReadOnlySequence<byte>(body)).Should().Be(WebhookVerification.Valid);
            InPieces(body).Should().Be(WebhookVerification.Valid);
            verifier.Verify(headers, Headers.Read, other).Should().Be(WebhookVerification.BadSignature);
            InPieces(other).Should().Be(WebhookVerification.BadSignature);
        }
    }

    [Fact]
    public void A_list_is_accepted_exactly_when_it_holds_a_valid_signature()
    {
        byte[] body = [1, 2, 3];
        WebhookVerifier verifier = Verifier(_pair.PublicKey);
        string valid = Sign(Signer(_pair.PrivateKey), body)["webhook-signature"], wrong = Sign(Signer(Ed25519WebhookKey.NewPair().PrivateKey), body)["webhook-signature"];
        string[] kinds = [valid, wrong, "v1a,malformed", "v1," + valid[4..]];
        var offenders = new List<string>();

        for (int length = 1; length <= 6; length++)
        {
            // All of up to three, and of the longer ones every seventh: each takes a good 50 µs.
            for (int code = 0; code < 1 << (2 * length); code += length <= 3 ? 1 : 7)
            {
                int[] list = [.. Enumerable.Range(0, length).Select(i => (code >> (2 * i)) & 3)];
                var headers = new Headers { ["webhook-id"] = Id, ["webhook-timestamp"] = "1614265330", ["webhook-signature"] = string.Join(' ', list.Select(kind => kinds[kind])) };
                if ((verifier.Verify(headers, Headers.Read, body) == WebhookVerification.Valid) != list.Contains(0))
                {
                    offenders.Add(string.Join(' ', list));
                }
            }
        }

        offenders.Should().BeEmpty();
    }

    [Fact]
    public void Both_kinds_of_keys_sign_together_and_each_receiver_takes_its_own()
    {
        string secret = WebhookKey.NewSecret();
        byte[] body = [1, 2, 3];

        Headers headers = Sign(Signer(secret, _pair.PrivateKey), body);

        headers["webhook-signature"].Split(' ').Select(signature => signature.Split(',')[0]).Should().Equal("v1", "v1a");
        string[][] receivers = [[secret], [_pair.PublicKey], [_pair.PublicKey, secret], [Ed25519WebhookKey.NewPair().PublicKey, secret], [WebhookKey.NewSecret(), _pair.PublicKey]];
        receivers.Should().AllSatisfy(keys => Verifier(keys).Verify(headers, Headers.Read, body).Should().Be(WebhookVerification.Valid));
        Verifier(Ed25519WebhookKey.NewPair().PublicKey, WebhookKey.NewSecret()).Verify(headers, Headers.Read, body).Should().Be(WebhookVerification.BadSignature);
        receivers.Should().AllSatisfy(keys =>
        {
            using WebhookSession session = Verifier(keys).Begin(headers, Headers.Read);
            session.Append(body.AsSpan(0, 1));
            session.Append(body.AsSpan(1));
            session.Finish().Should().Be(WebhookVerification.Valid);
        });
    }

    /// <summary>Whoever knows the public key, which is everybody, must not be able to use it as a secret.</summary>
    [Fact]
    public void A_public_key_is_never_taken_for_a_secret()
    {
        byte[] body = [1, 2, 3];
        byte[] publicKey = Convert.FromBase64String(_pair.PublicKey["whpk_".Length..]);
        string forged = "v1," + Convert.ToBase64String(HMACSHA256.HashData(publicKey, (byte[])[.. "msg_1.1614265330."u8, .. body]));
        var headers = new Headers { ["webhook-id"] = Id, ["webhook-timestamp"] = "1614265330", ["webhook-signature"] = forged };

        WebhookVerification result = Verifier(_pair.PublicKey).Verify(headers, Headers.Read, body);

        result.Should().Be(WebhookVerification.BadSignature);
    }

    [Fact]
    public void More_than_eight_signatures_are_refused_before_one_is_verified()
    {
        byte[] body = [1, 2, 3];
        Headers headers = Sign(Signer(_pair.PrivateKey), body);
        string valid = headers["webhook-signature"];

        headers["webhook-signature"] = string.Join(' ', Enumerable.Repeat("v1a," + Convert.ToBase64String(new byte[64]), 7).Append(valid));
        Verifier(_pair.PublicKey).Verify(headers, Headers.Read, body).Should().Be(WebhookVerification.Valid);
        headers["webhook-signature"] = string.Join(' ', Enumerable.Repeat("v1a," + Convert.ToBase64String(new byte[64]), 8).Append(valid));
        Verifier(_pair.PublicKey).Verify(headers, Headers.Read, body).Should().Be(WebhookVerification.HeaderTooLarge);
    }

    /// <summary>The same megabyte again and again; nothing of it is read.</summary>
    [Fact]
    public void A_message_that_fits_into_no_buffer_is_refused_and_does_not_throw()
    {
        Headers headers = Sign(Signer(_pair.PrivateKey), [1, 2, 3]);
        var first = new Segment(new byte[1 << 20], null);
        Segment last = first;
        while (last.RunningIndex <= int.MaxValue)
        {
            last = new Segment(first.Memory, last);
        }

        WebhookVerification result = Verifier(_pair.PublicKey).Verify(headers, Headers.Read, new ReadOnlySequence<byte>(first, 0, last, 1));

        result.Should().Be(WebhookVerification.BadSignature);
    }

    [Fact]
    public void Sessions_that_stop_half_way_spoil_nothing()
    {
        byte[] body = RandomNumberGenerator.GetBytes(10_000);
        WebhookVerifier verifier = Verifier(_pair.PublicKey);
        Headers headers = Sign(Signer(_pair.PrivateKey), body);
        for (int i = 0; i < 20; i++)
        {
            using WebhookSession session = verifier.Begin(headers, Headers.Read);
            session.Append(body.AsSpan(0, 5000));
        }

        WebhookVerification result = verifier.Verify(headers, Headers.Read, body);

        result.Should().Be(WebhookVerification.Valid);
    }

    [Theory]
    [InlineData(256)]
    [InlineData(1 << 20)]
    public void Verifying_and_signing_allocate_nothing(int length)
    {
        byte[] body = RandomNumberGenerator.GetBytes(length);
        WebhookSigner signer = Signer(_pair.PrivateKey);
        WebhookVerifier verifier = Verifier(_pair.PublicKey);
        Headers headers = Sign(signer, body);
        WebhookHeaderWriter<WebhookTests> write = static (_, _, _) => { };
        void Round()
        {
            if (verifier.Verify(headers, Headers.Read, body) != WebhookVerification.Valid)
            {
                throw new InvalidOperationException();
            }

            using WebhookSession session = verifier.Begin(headers, Headers.Read);
            session.Append(body);
            if (session.Finish() != WebhookVerification.Valid)
            {
                throw new InvalidOperationException();
            }

            signer.Sign(this, write, Id, body);
        }

        for (int i = 0; i < 20; i++)
        {
            Round();
        }

        // A collection that another test causes may trim the pool of buffers, so the best of several counts.
        long allocated = long.MaxValue;
        for (int i = 0; i < 20; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            Round();
            allocated = Math.Min(allocated, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        allocated.Should().Be(0);
    }

    [Fact]
    public void Keys_from_configuration_are_read_too()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?> { ["Hooks:Keys:0:Secret"] = _pair.PublicKey }).Build();
        using ServiceProvider provider = new ServiceCollection()
            .AddSingleton<IConfiguration>(configuration)
            .AddSingleton<TimeProvider>(_time)
            .AddWebhookVerifier("hooks", o => o.UseEd25519())
            .AddOptions<WebhookVerifierOptions>("hooks").BindConfiguration("Hooks").Services
            .BuildServiceProvider();

        WebhookVerification result = provider.GetRequiredKeyedService<WebhookVerifier>("hooks").Verify(Sign(Signer(_pair.PrivateKey), [1]), Headers.Read, new byte[] { 1 });

        result.Should().Be(WebhookVerification.Valid);
    }

    [Fact]
    public async Task Private_keys_change_while_they_sign()
    {
        byte[] body = [1, 2, 3];
        WebhookSigner signer = Signer(_pair.PrivateKey);
        WebhookVerifier verifier = Verifier(_pair.PublicKey);
        using var stop = new CancellationTokenSource();
        Task<int> work = Task.Run(() =>
        {
            int wrong = 0;
            do
            {
                wrong += verifier.Verify(Sign(signer, body), Headers.Read, body) == WebhookVerification.Valid ? 0 : 1;
            }
            while (!stop.IsCancellationRequested);

            return wrong;
        });

        for (int i = 0; i < 200; i++)
        {
            var options = new WebhookSignerOptions();
            options.UseEd25519();
            options.Keys.Add(new WebhookKey(Ed25519WebhookKey.NewPair().PrivateKey));
            options.Keys.Add(new WebhookKey(_pair.PrivateKey));
            signer.Update(options);
            GC.Collect(0);
        }

        await stop.CancelAsync();
        (await work).Should().Be(0);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory, Segment? previous)
        {
            Memory = memory;
            if (previous is not null)
            {
                RunningIndex = previous.RunningIndex + previous.Memory.Length;
                previous.Next = this;
            }
        }
    }
}

using System.Security.Cryptography;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Tests;

public sealed class SessionTests
{
    private const string Second = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    private readonly FakeTimeProvider _time = Sample.Time();

    public static TheoryData<string> Schemes => [.. Sample.Schemes.Select(scheme => scheme.Name)];

    [Theory]
    [MemberData(nameof(Schemes))]
    public void A_body_in_pieces_is_verified_under_each_key(string scheme)
    {
        WebhookScheme described = Sample.Schemes.Single(one => one.Name == scheme);
        WebhookVerifier verifier = Sample.Verifier(described, _time, Sample.Secret, Second);
        byte[] body = RandomNumberGenerator.GetBytes(10_000);

        foreach (string secret in new[] { Sample.Secret, Second, WebhookKey.NewSecret() })
        {
            Headers headers = Sample.Signer(described, _time, secret).Signed(body);
            using WebhookSession session = verifier.Begin(headers, Headers.Read);
            for (int at = 0; at < body.Length; at += 999)
            {
                session.Append(body.AsSpan(at, Math.Min(999, body.Length - at)));
            }

            WebhookVerification result = session.Finish(out WebhookMessage message);
            verifier.Verify(headers, Headers.Read, body, out WebhookMessage whole);

            result.Should().Be(secret is Sample.Secret or Second ? WebhookVerification.Valid : WebhookVerification.BadSignature);
            message.Should().Be(whole);
        }
    }

    [Fact]
    public void A_piece_too_many_or_too_few_is_a_bad_signature()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.GitHub, _time, Sample.Secret);
        Headers headers = Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret).Signed(Sample.Body);
        WebhookVerification Finish(params byte[][] pieces)
        {
            using WebhookSession session = verifier.Begin(headers, Headers.Read);
            foreach (byte[] piece in pieces)
            {
                session.Append(piece);
            }

            return session.Finish();
        }

        Finish(Sample.Body).Should().Be(WebhookVerification.Valid);
        Finish([], Sample.Body, []).Should().Be(WebhookVerification.Valid);
        Finish(Sample.Body, [0]).Should().Be(WebhookVerification.BadSignature);
        Finish(Sample.Body[1..]).Should().Be(WebhookVerification.BadSignature);
        Finish().Should().Be(WebhookVerification.BadSignature);
    }

    [Fact]
    public void Bad_headers_refuse_before_the_body_is_read()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.GitHub, _time, Sample.Secret);
        using WebhookSession session = verifier.Begin(new Headers(), Headers.Read);

        session.Append(Sample.Body);
        WebhookVerification result = session.Finish();

        (session.IsRefused, result).Should().Be((true, WebhookVerification.MissingHeader));
    }

    [Fact]
    public void A_body_that_stops_half_way_spoils_no_later_message()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.GitHub, _time, Sample.Secret, Second);
        Headers first = Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret).Signed(Sample.Body), second = Sample.Signer(WebhookScheme.GitHub, _time, Second).Signed(Sample.Body);

        for (int i = 0; i < 100; i++)
        {
            using WebhookSession session = verifier.Begin(first, Headers.Read);
            session.Append("half of a"u8);
        }

        (verifier.Verify(second, Sample.Body), verifier.Verify(first, Sample.Body)).Should().Be((WebhookVerification.Valid, WebhookVerification.Valid));
        verifier.Ring.Pool.Kept.Should().Be(1, "it is the same state each time");
    }

    [Fact]
    public void A_session_that_ended_touches_no_other()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.GitHub, _time, Sample.Secret);
        Headers headers = Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret).Signed(Sample.Body);
        WebhookSession ended = verifier.Begin(headers, Headers.Read);
        ended.Dispose();
        using WebhookSession next = verifier.Begin(headers, Headers.Read);
        Action[] late = [() => ended.Append("x"u8), () => ended.Finish(), () => default(WebhookSession).Append("x"u8), () => default(WebhookSession).Finish()];

        late.Should().AllSatisfy(call => call.Should().Throw<InvalidOperationException>());
        ended.Dispose();
        default(WebhookSession).Dispose();
        next.Append(Sample.Body);

        next.Finish().Should().Be(WebhookVerification.Valid);
    }

    [Fact]
    public void Keys_that_change_meanwhile_do_not_change_the_end()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.GitHub, _time, Sample.Secret);
        Headers headers = Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret).Signed(Sample.Body);
        using WebhookSession session = verifier.Begin(headers, Headers.Read);
        WebhookKeyRing old = verifier.Ring;

        verifier.Update(Sample.VerifierOptions(WebhookScheme.GitHub, Second));
        session.Append(Sample.Body);

        session.Finish().Should().Be(WebhookVerification.Valid);
        verifier.Verify(headers, Sample.Body).Should().Be(WebhookVerification.BadSignature);
        old.Pool.Kept.Should().Be(0, "the states of keys that went are let go");
    }

    /// <summary>A captured message, begun in time, whose body trickles in until the guard has forgotten it.</summary>
    [Theory]
    [InlineData("Stripe", WebhookVerification.Stale)]
    [InlineData("Slack", WebhookVerification.Stale)]
    [InlineData("StandardWebhooks", WebhookVerification.Stale)]
    [InlineData("GitHub", WebhookVerification.Valid)]
    public void The_time_is_judged_again_when_the_body_has_come(string scheme, WebhookVerification expected)
    {
        WebhookScheme described = Sample.Schemes.Single(one => one.Name == scheme);
        WebhookVerifier verifier = Sample.Verifier(described, _time, Sample.Secret);
        Headers headers = Sample.Signer(described, _time, Sample.Secret).Signed(Sample.Body);
        using WebhookSession early = verifier.Begin(headers, Headers.Read), late = verifier.Begin(headers, Headers.Read);
        early.Append(Sample.Body);
        late.Append(Sample.Body);

        _time.Advance(TimeSpan.FromSeconds(300));
        WebhookVerification inTime = early.Finish();
        _time.Advance(TimeSpan.FromSeconds(1));
        WebhookVerification tooLate = late.Finish(out WebhookMessage message);

        (inTime, tooLate, message.IsVerified).Should().Be((WebhookVerification.Valid, expected, expected == WebhookVerification.Valid));
    }

    /// <summary>The request is aborted while it is finished: a state that goes back twice would be given to two messages at once.</summary>
    [Fact]
    public void Two_that_end_a_session_at_once_give_its_state_back_once()
    {
        var time = new InterruptingTime();
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.Stripe, time, Sample.Secret);
        WebhookSession session = verifier.Begin(Sample.Signer(WebhookScheme.Stripe, _time, Sample.Secret).Signed(Sample.Body), Headers.Read);
        session.Append(Sample.Body);
        time.Asked = () => session.Dispose();

        WebhookVerification result = session.Finish();

        result.Should().Be(WebhookVerification.Valid);
        verifier.Ring.Pool.Kept.Should().Be(1);
    }

    /// <summary>Another thread's step in the middle of ours, without the thread.</summary>
    private sealed class InterruptingTime : TimeProvider
    {
        public Action? Asked { get; set; }

        public override DateTimeOffset GetUtcNow()
        {
            Asked?.Invoke();
            return Sample.Now;
        }
    }
}

using System.Text;

namespace Backend.Toolkit.Webhooks.Tests;

/// <summary>What the senders themselves have published.</summary>
public sealed class VectorTests
{
    public static TheoryData<string, string, string, long, string, string> Published => new()
    {
        { "StandardWebhooks", Sample.Secret, Sample.Id, Sample.Seconds, """{"test": 2432232314}""", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
        { "StandardWebhooks", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Sample.Id, Sample.Seconds, """{"test": 2432232314}""", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
        { "GitHub", "It's a Secret to Everybody", "72d3162e-cc78-11e3-81ab-4c9367dc0958", 0, "Hello, World!", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" },
        {
            "Slack", "8f742231b10e8888abcd99yyyzzz85a5", Sample.Id, 1531420618,
            "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        },
    };

    [Theory]
    [MemberData(nameof(Published))]
    public void A_published_vector_is_signed_and_verified(string scheme, string secret, string id, long seconds, string body, string signature)
    {
        WebhookScheme described = Sample.Schemes.Single(one => one.Name == scheme);
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(DateTimeOffset.FromUnixTimeSeconds(seconds));
        byte[] bytes = Encoding.UTF8.GetBytes(body);

        Headers headers = Sample.Signer(described, time, secret).Signed(bytes, id);

        headers[described.SignatureHeader].Should().Be(signature);
        Sample.Verifier(described, time, secret).Verify(headers, bytes).Should().Be(WebhookVerification.Valid);
        bytes[^1] ^= 1;
        Sample.Verifier(described, time, secret).Verify(headers, bytes).Should().Be(WebhookVerification.BadSignature);
    }

    /// <summary>RFC 4231, the case of a short key, under a scheme without parts.</summary>
    [Fact]
    public void A_vector_with_a_short_key_needs_the_explicit_option()
    {
        WebhookVerifierOptions options = Sample.VerifierOptions(WebhookScheme.GitHub, "Jefe");
        Action refused = () => _ = new WebhookVerifier(options);
        refused.Should().Throw<Microsoft.Extensions.Options.OptionsValidationException>().WithMessage("*Keys[0] Secret must have between 16 and 1024 bytes, but has 4*");
        options.MinimumSecretBytes = 4;
        var headers = new Headers { ["X-Hub-Signature-256"] = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" };

        WebhookVerification result = new WebhookVerifier(options).Verify(headers, "what do ya want for nothing?"u8);

        result.Should().Be(WebhookVerification.Valid);
    }
}

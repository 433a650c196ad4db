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

    /// <summary>Of the test suites of Stripe.net and of Octokit, whose secrets are shorter than ours may be, and of the documentation of Standard Webhooks, whose list has three.</summary>
    [Theory]
    [InlineData(
        "Stripe", "webhook_secret", 1533204620, "{\n  \"id\": \"evt_123\",\n  \"object\": \"event\",\n  \"account\": \"acct_123\",\n  \"api_version\": \"2017-05-25\",\n  \"created\": 1533204620,\n  \"data\": {\n    \"object\": {\n      \"id\": \"cus_123\",\n      \"object\": \"customer\",\n      \"created\": 123456789,\n      \"email\": \"test@stripe.com\",\n      \"livemode\": false,\n      \"metadata\": {}\n    }\n  },\n  \"livemode\": false,\n  \"pending_webhooks\": 1,\n  \"request\": {\n    \"id\": \"req_123\",\n    \"idempotency_key\": \"idempotency-key-123\"\n  },\n  \"type\": \"customer.created\"\n}\n",
        "t=1533204620,v1=2220f87ef101a04665f11cdf770523143f875572008577fa0f20882ddb9cc3c7,v0=63f3a72374a733066c4be69ed7f8e5ac85c22c9f0a6a612ab9a025a9e4ee7eef")]
    [InlineData("GitHub", "mysecret", 0, "{\"foo\":\"bar\"}", "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3")]
    [InlineData(
        "StandardWebhooks", Sample.Secret, Sample.Seconds, "{\"test\": 2432232314}",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= v2,MzJsNDk4MzI0K2VvdSMjMTEjQEBAQDEyMzMzMzEyMwo=")]
    public void A_published_header_is_verified(string scheme, string secret, long seconds, string body, string header)
    {
        WebhookScheme described = Sample.Schemes.Single(one => one.Name == scheme);
        WebhookVerifierOptions options = Sample.VerifierOptions(described, secret);
        options.MinimumSecretBytes = 8;
        var verifier = new WebhookVerifier(options, new Microsoft.Extensions.Time.Testing.FakeTimeProvider(DateTimeOffset.FromUnixTimeSeconds(seconds + 100)));
        Headers headers = Sample.Standard("", timestamp: "1614265330");
        headers[described.SignatureHeader] = header;

        WebhookVerification published = verifier.Verify(headers, Encoding.UTF8.GetBytes(body)), other = verifier.Verify(headers, Encoding.UTF8.GetBytes(body + " "));

        (published, other).Should().Be((WebhookVerification.Valid, WebhookVerification.BadSignature));
    }
}

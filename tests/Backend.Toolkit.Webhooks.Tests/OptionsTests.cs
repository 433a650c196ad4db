using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.Tests;

public sealed class OptionsTests
{
    private static string[] Problems(WebhookScheme scheme, params string[] secrets) => [.. Sample.VerifierOptions(scheme, secrets).Problems()];

    [Fact]
    public void No_key_at_all_is_a_problem()
    {
        string[] problems = Problems(WebhookScheme.Stripe);

        problems.Should().Equal("test: Keys must be 1 to 16 keys (without one, nobody could be told from a forger), but is 0.");
    }

    [Theory]
    [InlineData("StandardWebhooks", "")]
    [InlineData("StandardWebhooks", " ")]
    [InlineData("StandardWebhooks", "whsec_")]
    [InlineData("Stripe", "")]
    [InlineData("GitHub", "\t")]
    [InlineData("Slack", "")]
    [InlineData("Shopify", "")]
    public void An_empty_secret_is_a_problem_whatever_the_minimum(string scheme, string secret)
    {
        WebhookVerifierOptions options = Sample.VerifierOptions(Sample.Schemes.Single(one => one.Name == scheme), secret);
        options.MinimumSecretBytes = 1;

        options.Problems().Should().Equal("test: Keys[0] Secret must not be empty, but is.");
    }

    [Theory]
    [InlineData("StandardWebhooks", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=", "Keys[0] Secret must have between 24 and 1024 bytes, but has 23 (MinimumSecretBytes lowers the bound).")]
    [InlineData("Stripe", "whsec_15_bytes_", "Keys[0] Secret must have between 16 and 1024 bytes, but has 15 (MinimumSecretBytes lowers the bound).")]
    [InlineData("GitHub", "fifteen bytes..", "Keys[0] Secret must have between 16 and 1024 bytes, but has 15 (MinimumSecretBytes lowers the bound).")]
    [InlineData("GitHub", "a secret from a file\n", "Keys[0] Secret must not begin or end with white space, but does: is there a line break at the end of a file?")]
    [InlineData("StandardWebhooks", "whsec_test_secret_of_stripe", "Keys[0] Secret must be base64, with or without whsec_ before it, but is not (a Stripe secret is text: set Scheme to Stripe).")]
    [InlineData("StandardWebhooks", "whsec_AAECAwQFBgcICQoL DA0ODxAREhMUFRYX", "Keys[0] Secret must be base64, with or without whsec_ before it, but is not (a Stripe secret is text: set Scheme to Stripe).")]
    [InlineData("StandardWebhooks", "sk_live_0123456789abcdefghijklmn", "Keys[0] Secret must be base64, with or without whsec_ before it, but is not (a Stripe secret is text: set Scheme to Stripe).")]
    [InlineData("StandardWebhooks", "whsec_5af1c52cbb8a1e0d4c3b2a19080706050403020100ffeeddccbbaa9988776655", "Keys[0] Secret must be base64, but is 64 hexadecimal digits, such as a Stripe secret (set Scheme to Stripe).")]
    [InlineData("StandardWebhooks", "whpk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Keys[0] Secret must be one of whsec_, since nothing reads whpk_ and whsk_: add Backend.Toolkit.Webhooks.Ed25519 and call UseEd25519().")]
    [InlineData("Stripe", "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Keys[0] Secret must be one of the scheme Stripe, but is a key for Standard Webhooks.")]
    public void A_bad_secret_is_a_problem_that_does_not_tell_it(string scheme, string secret, string expected)
    {
        string[] problems = Problems(Sample.Schemes.Single(one => one.Name == scheme), secret);

        problems.Should().Equal("test: " + expected);
        problems[0].Should().NotContain(secret).And.NotContain(secret["whsec_".Length..]);
    }

    /// <summary>An array that nobody filled. HMAC pads a key with zeros, so everybody who signs with nothing signs with it.</summary>
    [Theory]
    [InlineData("StandardWebhooks", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    [InlineData("StandardWebhooks", "AA==")]
    [InlineData("GitHub", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")]
    public void A_secret_of_zeros_is_an_empty_one(string scheme, string secret)
    {
        WebhookVerifierOptions options = Sample.VerifierOptions(Sample.Schemes.Single(one => one.Name == scheme), secret);
        options.MinimumSecretBytes = 1;

        options.Problems().Should().Equal("test: Keys[0] Secret must have a byte other than zero, but has none: HMAC pads keys with zeros, so it would be the empty one.");
    }

    [Fact]
    public void Text_that_UTF8_cannot_hold_is_a_problem()
    {
        string[] problems = Problems(WebhookScheme.GitHub, "half a surrogate \ud800 pair");

        problems.Should().Equal("test: Keys[0] Secret must be well-formed text, but has half of a surrogate pair.");
    }

    [Fact]
    public void The_minimum_is_lowered_only_by_saying_so()
    {
        WebhookSignerOptions options = Sample.SignerOptions(WebhookScheme.StandardWebhooks, "whsec_AAEC");
        options.MinimumSecretBytes = 3;

        options.Problems().Should().BeEmpty();
    }

    [Fact]
    public void All_problems_are_told_together()
    {
        WebhookVerifierOptions options = Sample.VerifierOptions(WebhookScheme.GitHub, [.. Enumerable.Repeat(Sample.Secret, 17)]);
        options.Keys[3] = null!;
        options.Keys[4] = new WebhookKey(Sample.Secret) { NotBefore = Sample.Now, Expires = Sample.Now };
        options.Tolerance = TimeSpan.Zero;
        options.MinimumSecretBytes = 0;
        Action make = () => _ = new WebhookVerifier(options);

        make.Should().Throw<OptionsValidationException>().Which.Failures.Should().Equal(
            "test: MinimumSecretBytes must be null or between 1 and 1024, but is 0.",
            "test: Keys must be 1 to 16 keys (without one, nobody could be told from a forger), but is 17.",
            "test: Keys[3] must be other than null.",
            "test: Keys[4] must have NotBefore before Expires, but has 2021-02-25T15:02:10.0000000+00:00 and 2021-02-25T15:02:10.0000000+00:00.",
            "test: Tolerance must be between 00:00:01 and 1.00:00:00, but is 00:00:00.");
    }

    public static TheoryData<string, WebhookScheme> BadSchemes => new()
    {
        { "an id without an end", Scheme("{id}{timestamp}.{body}") },
        { "a timestamp without an end", Scheme("{id}.{timestamp}{body}") },
        { "digits after a timestamp", Scheme("{timestamp}0.{body}") },
        { "no body", Scheme("{timestamp}.") },
        { "a body before its end", Scheme("{body}.{timestamp}.") },
        { "an unknown part", Scheme("{nonce}.{body}") },
        { "a part twice", Scheme("{id}.{id}.{body}") },
        { "text that is not ASCII", Scheme("ä.{timestamp}.{body}") },
        { "a time that is not signed", Scheme("{id}.{body}") },
        { "an id without a header", new WebhookScheme { Name = "n", SignatureHeader = "s", SignedContent = "{id}.{body}" } },
        { "a time without a header", new WebhookScheme { Name = "n", SignatureHeader = "s", SignedContent = "{timestamp}.{body}" } },
        { "a time in two places", new WebhookScheme { Name = "n", SignatureHeader = "s", SignedContent = "{timestamp}.{body}", TimestampHeader = "t", TimestampPrefix = "t=", Separator = ',' } },
        { "prefixes that meet", new WebhookScheme { Name = "n", SignatureHeader = "s", SignedContent = "{timestamp}.{body}", TimestampPrefix = "t=", Separator = ',' } },
        { "a time beside a single signature", new WebhookScheme { Name = "n", SignatureHeader = "s", SignedContent = "{timestamp}.{body}", TimestampPrefix = "t=", SignaturePrefix = "v=" } },
        { "a separator that is a digit", new WebhookScheme { Name = "n", SignatureHeader = "s", Separator = 'a' } },
        { "no header", new WebhookScheme { Name = "n", SignatureHeader = " " } },
        { "no encoding", new WebhookScheme { Name = "n", SignatureHeader = "s", Encoding = (WebhookEncoding)7 } },
        { "no minimum", new WebhookScheme { Name = "n", SignatureHeader = "s", MinimumSecretBytes = 0 } },
        { "a long prefix", new WebhookScheme { Name = "n", SignatureHeader = "s", SignaturePrefix = new string('v', 33) } },
    };

    private static WebhookScheme Scheme(string content) => new() { Name = "n", SignatureHeader = "s", IdHeader = "i", TimestampHeader = "t", SignedContent = content };

    [Theory]
    [MemberData(nameof(BadSchemes))]
    public void A_scheme_whose_parts_run_into_each_other_is_a_problem(string why, WebhookScheme scheme)
    {
        string[] problems = Problems(scheme, Sample.Secret);

        problems.Should().ContainSingle(why).Which.Should().StartWith("test: Scheme must be with ");
    }

    [Fact]
    public void A_scheme_is_needed()
    {
        WebhookVerifierOptions options = Sample.VerifierOptions(null!, Sample.Secret);

        options.Problems().Should().Equal("test: Scheme must be set, but is null.");
    }

    [Fact]
    public void The_guard_tells_its_problems()
    {
        var options = new WebhookReplayGuardOptions { Name = "guard", Lease = TimeSpan.Zero, RetryWindow = TimeSpan.FromDays(366), MaxKeys = 0 };
        Action make = () => _ = new WebhookReplayGuard(options);

        make.Should().Throw<OptionsValidationException>().Which.Failures.Should().Equal(
            "guard: Lease must be between 00:00:00.1000000 and 1.00:00:00, but is 00:00:00.",
            "guard: RetryWindow must be between Lease (00:00:00) and 365.00:00:00, but is 366.00:00:00.",
            "guard: MaxKeys must be between 1 and 100000000, but is 0.");
    }

    [Fact]
    public void A_store_that_lacks_one_of_its_steps_is_a_problem()
    {
        var options = new WebhookReplayGuardOptions { Name = "guard", Store = new WebhookReplayStore { Reserve = (_, _) => default, Commit = (_, _, _, _) => default } };

        options.Problems().Should().Equal("guard: Store must be null or a store with Reserve, Commit and Release, but is without one of them.");
    }
}

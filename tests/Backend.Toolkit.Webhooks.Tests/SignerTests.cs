using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Tests;

public sealed class SignerTests
{
    private const string Second = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    private readonly FakeTimeProvider _time = Sample.Time();

    [Theory]
    [InlineData("StandardWebhooks", 2)]
    [InlineData("Stripe", 2)]
    [InlineData("GitHub", 1)]
    [InlineData("Slack", 1)]
    [InlineData("Shopify", 1)]
    public void It_signs_under_all_keys_in_force_where_the_scheme_has_room(string scheme, int signatures)
    {
        WebhookScheme described = Sample.Schemes.Single(one => one.Name == scheme);
        WebhookSignerOptions options = Sample.SignerOptions(described, Sample.Secret, Second);
        options.Keys.Add(new WebhookKey(WebhookKey.NewSecret()) { NotBefore = Sample.Now.AddSeconds(1) });

        Headers headers = new WebhookSigner(options, _time).Signed(Sample.Body);

        headers[described.SignatureHeader].Split(described.Separator ?? '\n').Should().HaveCount(signatures + (scheme == "Stripe" ? 1 : 0));
        Sample.Verifier(described, _time, Sample.Secret).Verify(headers, Sample.Body).Should().Be(WebhookVerification.Valid);
        Sample.Verifier(described, _time, Second).Verify(headers, Sample.Body).Should().Be(signatures == 2 ? WebhookVerification.Valid : WebhookVerification.BadSignature);
    }

    [Fact]
    public void Sixteen_keys_fit_into_one_header()
    {
        string[] secrets = [.. Enumerable.Range(0, 16).Select(_ => WebhookKey.NewSecret())];

        foreach (WebhookScheme scheme in new[] { WebhookScheme.StandardWebhooks, WebhookScheme.Stripe })
        {
            Headers headers = Sample.Signer(scheme, _time, secrets).Signed(Sample.Body);

            secrets.Should().AllSatisfy(secret => Sample.Verifier(scheme, _time, secret).Verify(headers, Sample.Body).Should().Be(WebhookVerification.Valid));
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("msg.1")]
    [InlineData("msg 1")]
    [InlineData("msg\r\nX-Injected: 1")]
    [InlineData("mäg")]
    public void An_id_that_could_not_be_verified_is_not_signed(string? id)
    {
        WebhookSigner signer = Sample.Signer(WebhookScheme.StandardWebhooks, _time, Sample.Secret);
        Action sign = () => signer.Signed(Sample.Body, id);

        sign.Should().Throw<ArgumentException>().WithMessage("test: an id must have 1 to 255 visible ASCII characters, none of them '.', which ends it in what is signed.*");
    }

    [Fact]
    public void An_id_that_is_not_signed_may_be_missing_but_breaks_no_header()
    {
        WebhookSigner signer = Sample.Signer(WebhookScheme.GitHub, _time, Sample.Secret);
        Action sign = () => signer.Signed(Sample.Body, "a\r\nb");

        signer.Signed(Sample.Body, null).Keys.Should().Equal("X-Hub-Signature-256");
        signer.Signed(Sample.Body, "72d3162e.1").Keys.Should().Equal("X-GitHub-Delivery", "X-Hub-Signature-256");
        sign.Should().Throw<ArgumentException>();
    }

    [Fact]
    public void A_time_before_1970_is_not_signed()
    {
        WebhookSigner signer = Sample.Signer(WebhookScheme.StandardWebhooks, _time, Sample.Secret);
        Action sign = () => signer.Signed(Sample.Body, timestamp: DateTimeOffset.FromUnixTimeSeconds(-1));

        sign.Should().Throw<ArgumentOutOfRangeException>();
    }

    [Fact]
    public void Without_a_key_in_force_it_throws_and_logs_once()
    {
        var log = new LogList();
        WebhookSignerOptions options = Sample.SignerOptions(WebhookScheme.StandardWebhooks);
        options.Keys.Add(new WebhookKey(Sample.Secret) { Expires = Sample.Now });
        var signer = new WebhookSigner(options, _time, log);
        Action sign = () => signer.Signed(Sample.Body);

        sign.Should().Throw<InvalidOperationException>().WithMessage("test: no key is in force; look at NotBefore and Expires of Keys.");
        sign.Should().Throw<InvalidOperationException>();
        log.Entries.Should().ContainSingle().Which.Message.Should().Be("Webhook signer 'test': no key is in force; nothing can be signed. Look at NotBefore and Expires of Keys.");
    }

    [Fact]
    public void A_writer_that_throws_takes_nothing_with_it()
    {
        WebhookSigner signer = Sample.Signer(WebhookScheme.StandardWebhooks, _time, Sample.Secret);
        Action sign = () => signer.Sign(0, (_, _, _) => throw new IOException("gone"), Sample.Id, Sample.Body);

        sign.Should().Throw<IOException>();
        Sample.Verifier(WebhookScheme.StandardWebhooks, _time, Sample.Secret).Verify(signer.Signed(Sample.Body), Sample.Body).Should().Be(WebhookVerification.Valid);
    }

    [Fact]
    public void A_new_secret_is_random_and_long_enough()
    {
        string[] secrets = [.. Enumerable.Range(0, 100).Select(_ => WebhookKey.NewSecret())];

        secrets.Should().OnlyHaveUniqueItems().And.AllSatisfy(secret => Sample.SignerOptions(WebhookScheme.StandardWebhooks, secret).Problems().Should().BeEmpty());
        new WebhookKey(secrets[0]).ToString().Should().NotContain(secrets[0]);
    }
}

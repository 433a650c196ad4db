using System.Security.Cryptography;

namespace Backend.Toolkit.Webhooks.Tests;

/// <summary>Keys change while messages are verified and signed.</summary>
public sealed class ReloadTests
{
    [Fact]
    public async Task Under_load_every_message_of_a_common_key_is_valid_and_none_of_a_strange_one()
    {
        const int rounds = 300;
        string common = WebhookKey.NewSecret(), stranger = WebhookKey.NewSecret();
        byte[] body = RandomNumberGenerator.GetBytes(3000);
        WebhookSigner signer = Sample.Signer(WebhookScheme.StandardWebhooks, TimeProvider.System, common);
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.StandardWebhooks, TimeProvider.System, common);
        Headers forged = Sample.Signer(WebhookScheme.StandardWebhooks, TimeProvider.System, stranger).Signed(body);
        using var stop = new CancellationTokenSource();
        var rings = new List<WebhookKeyRing>();

        Task<(int Verified, int Wrong)>[] workers = [.. Enumerable.Range(0, 4).Select(worker => Task.Run(() =>
        {
            int verified = 0, wrong = 0;
            do
            {
                Headers headers = signer.Signed(body);
                using WebhookSession session = verifier.Begin(headers, Headers.Read);
                session.Append(body.AsSpan(0, 1000));
                wrong += verifier.Verify(headers, body) == WebhookVerification.Valid ? 0 : 1;
                session.Append(body.AsSpan(1000));
                wrong += session.Finish() == WebhookVerification.Valid ? 0 : 1;
                wrong += verifier.Verify(forged, body) == WebhookVerification.BadSignature ? 0 : 1;
                verified++;
            }
            while (!stop.IsCancellationRequested);

            return (verified, wrong);
        }))];
        for (int i = 0; i < rounds; i++)
        {
            rings.Add(verifier.Ring);
            string[] secrets = i % 2 == 0 ? [WebhookKey.NewSecret(), common] : [common, WebhookKey.NewSecret()];
            verifier.Update(Sample.VerifierOptions(WebhookScheme.StandardWebhooks, secrets));
            signer.Update(Sample.SignerOptions(WebhookScheme.StandardWebhooks, secrets));
            await Task.Yield();
        }

        await stop.CancelAsync();
        (int Verified, int Wrong)[] results = await Task.WhenAll(workers);

        results.Sum(result => result.Wrong).Should().Be(0);
        results.Should().OnlyContain(result => result.Verified > 0);
        rings.Should().OnlyContain(ring => ring.Pool.Kept == 0, "no hash of a key that went is kept");
    }

    [Fact]
    public void An_invalid_update_leaves_the_old_keys_in_force()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.GitHub, Sample.Time(), Sample.Secret);
        WebhookSigner signer = Sample.Signer(WebhookScheme.GitHub, Sample.Time(), Sample.Secret);
        Action[] updates = [() => verifier.Update(Sample.VerifierOptions(WebhookScheme.GitHub)), () => signer.Update(Sample.SignerOptions(WebhookScheme.GitHub, ""))];

        updates.Should().AllSatisfy(update => update.Should().Throw<Microsoft.Extensions.Options.OptionsValidationException>());
        verifier.Verify(signer.Signed(Sample.Body), Sample.Body).Should().Be(WebhookVerification.Valid);
    }

    /// <summary>What was seen is kept under the name: with another, everything that was handled could be handled again.</summary>
    [Fact]
    public async Task Options_without_a_name_do_not_make_other_messages_of_those_that_were_seen()
    {
        WebhookVerifier verifier = Sample.Verifier(WebhookScheme.StandardWebhooks, Sample.Time(), Sample.Secret);
        WebhookSigner signer = Sample.Signer(WebhookScheme.StandardWebhooks, Sample.Time(), Sample.Secret);
        var guard = new WebhookReplayGuard(new WebhookReplayGuardOptions());
        Headers headers = signer.Signed(Sample.Body);
        verifier.Verify(headers, Headers.Read, Sample.Body, out WebhookMessage before);
        await (await guard.ReserveAsync(before)).CommitAsync();
        var verifierOptions = new WebhookVerifierOptions { Keys = { new WebhookKey(Sample.Secret) } };
        var signerOptions = new WebhookSignerOptions { Keys = { new WebhookKey(Sample.Secret) { Expires = Sample.Now } } };

        verifier.Update(verifierOptions);
        signer.Update(signerOptions);
        verifier.Verify(headers, Headers.Read, Sample.Body, out WebhookMessage after);
        Action sign = () => signer.Signed(Sample.Body);

        (await guard.ReserveAsync(after)).Status.Should().Be(WebhookReservationStatus.Committed);
        sign.Should().Throw<InvalidOperationException>().WithMessage("test: no key is in force*");
    }
}

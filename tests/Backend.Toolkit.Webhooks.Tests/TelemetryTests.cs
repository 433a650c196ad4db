using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Webhooks.Tests;

[Collection("The meter")]
public sealed class TelemetryTests
{
    [Fact]
    public async Task What_was_found_is_counted()
    {
        using var metrics = new Metrics("counted");
        WebhookVerifierOptions options = Sample.VerifierOptions(WebhookScheme.StandardWebhooks, Sample.Secret);
        WebhookSignerOptions signing = Sample.SignerOptions(WebhookScheme.StandardWebhooks, Sample.Secret);
        options.Name = signing.Name = "counted";
        options.Keys[0].Expires = signing.Keys[0].Expires = Sample.Now.AddSeconds(2);
        var time = Sample.Time();
        var verifier = new WebhookVerifier(options, time);
        var signer = new WebhookSigner(signing, time);
        var guard = new WebhookReplayGuard(new WebhookReplayGuardOptions { Name = "counted", MaxKeys = 1 }, time);

        verifier.Verify(signer.Signed(Sample.Body), Headers.Read, Sample.Body, out WebhookMessage message);
        WebhookReservation reservation = await guard.ReserveAsync(message);
        await guard.ReserveAsync(message);
        await reservation.CommitAsync();
        await guard.ReserveAsync(message);
        await guard.ReserveAsync(message.ReplayKeyOf("evt"));
        verifier.Verify(signer.Signed(Sample.Body), []);
        verifier.Verify([], Sample.Body);
        verifier.Verify(Sample.Standard("v1"), Sample.Body);
        verifier.Verify(Sample.Standard(new string('v', 5000)), Sample.Body);
        verifier.Verify(signer.Signed(Sample.Body, timestamp: Sample.Now.AddHours(-1)), Sample.Body);
        Headers last = signer.Signed(Sample.Body, timestamp: Sample.Now.AddHours(1));
        using (WebhookSession session = verifier.Begin(last, Headers.Read))
        {
            session.Finish();
        }

        last = signer.Signed(Sample.Body);
        time.Advance(TimeSpan.FromSeconds(2));
        using (WebhookSession session = verifier.Begin(last, Headers.Read))
        {
            session.Finish();
        }

        metrics.Seen.Should().Equal(
            "signed", "verified valid", "reservations reserved", "reservations in_progress", "reservations committed", "reservations full", "signed", "verified bad_signature", "verified missing_header",
            "verified malformed", "verified header_too_large", "signed", "verified stale", "signed", "verified from_future", "signed", "verified no_key_in_force");
    }

    [Fact]
    public void A_listener_that_throws_changes_nothing()
    {
        using var listener = new MeterListener();
        listener.InstrumentPublished = static (instrument, self) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.Webhooks")
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        int heard = 0;
        listener.SetMeasurementEventCallback<long>((_, _, _, _) =>
        {
            heard++;
            throw new InvalidOperationException("bug");
        });
        listener.Start();

        WebhookVerification result = Sample.Verifier(WebhookScheme.GitHub, Sample.Time(), Sample.Secret).Verify(Sample.Signer(WebhookScheme.GitHub, Sample.Time(), Sample.Secret).Signed(Sample.Body), Sample.Body);

        result.Should().Be(WebhookVerification.Valid);
        heard.Should().Be(2);
    }
}

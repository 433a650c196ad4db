using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

[Collection("The meter")]
public sealed class TelemetryTests
{
    [Fact]
    public async Task Attempts_are_counted_by_result_and_carry_no_endpoint()
    {
        using Rig rig = await Rig.CreateAsync(o =>
        {
            o.Name = "counted";
            o.Schedule = [TimeSpan.Zero, TimeSpan.FromSeconds(1)];
        });
        var measured = new List<(string Instrument, string Tags)>();
        using MeterListener listener = Listen(measured);
        await rig.AddEndpointAsync("fails.example.com");
        await rig.AddEndpointAsync("works.example.com");
        await rig.EnqueueAsync("msg_1");
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(request => request.RequestUri!.Host.StartsWith("works", StringComparison.Ordinal) ? 200 : 500));

        await Rig.StepAsync(worker);
        rig.Time.Advance(TimeSpan.FromSeconds(2));
        await Rig.StepAsync(worker);

        lock (measured)
        {
            string[] results = [.. measured.Where(one => one.Instrument == "backend.toolkit.webhooks.delivery.attempts").Select(one => one.Tags).Order()];
            results.Should().Equal("name=counted, result=dead", "name=counted, result=delivered", "name=counted, result=failed");
            measured.Count(one => one.Instrument == "backend.toolkit.webhooks.delivery.attempt.duration").Should().Be(3);
        }
    }

    [Fact]
    public async Task The_oldest_due_is_told_while_somebody_listens()
    {
        using var database = new SqliteDatabase();
        var store = Support.Store(database, TimeProvider.System);
        await store.PrepareAsync();
        var measured = new List<(string Instrument, string Tags)>();
        using MeterListener listener = Listen(measured);
        await using var worker = new WebhookDeliveryWorker(new WebhookDeliveryOptions { Name = "gauged" }, store);

        await worker.StartAsync();

        await Support.UntilAsync(() =>
        {
            lock (measured)
            {
                return measured.Contains(("backend.toolkit.webhooks.delivery.oldest_due", "name=gauged"));
            }
        }, "the gauge is told");
    }

    [Fact]
    public async Task Each_attempt_is_a_span_under_the_one_that_enqueued()
    {
        using Rig rig = await Rig.CreateAsync();
        var spans = new System.Collections.Concurrent.ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "Backend.Toolkit.Webhooks.Delivery",
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = spans.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        await rig.AddEndpointAsync();
        using (Activity caller = new Activity("request").SetIdFormat(ActivityIdFormat.W3C).Start())
        {
            await rig.EnqueueAsync("msg_traced");
            caller.Stop();
            Activity.Current = null;

            await Rig.StepAsync(rig.Worker(new Receiver(_ => 503)));

            Activity span = spans.Should().ContainSingle(one => (string?)one.GetTagItem("backend.toolkit.webhooks.delivery.event_id") == "msg_traced").Which;
            span.TraceId.Should().Be(caller.TraceId);
            span.ParentSpanId.Should().Be(caller.SpanId);
            span.GetTagItem("http.response.status_code").Should().Be(503);
            span.Status.Should().Be(ActivityStatusCode.Error);
        }
    }

    private static MeterListener Listen(List<(string, string)> measured)
    {
        var listener = new MeterListener
        {
            InstrumentPublished = static (instrument, listener) =>
            {
                if (instrument.Meter.Name == "Backend.Toolkit.Webhooks.Delivery")
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        void Add(Instrument instrument, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            string text = string.Join(", ", tags.ToArray().Select(tag => $"{tag.Key}={tag.Value}"));
            lock (measured)
            {
                if (text.Contains("counted") || text.Contains("gauged"))
                {
                    measured.Add((instrument.Name, text));
                }
            }
        }

        listener.SetMeasurementEventCallback<long>((instrument, _, tags, _) => Add(instrument, tags));
        listener.SetMeasurementEventCallback<double>((instrument, _, tags, _) => Add(instrument, tags));
        listener.Start();
        return listener;
    }
}

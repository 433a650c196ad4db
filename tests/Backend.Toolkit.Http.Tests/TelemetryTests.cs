using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Http.Tests;

public sealed class TelemetryTests
{
    private readonly string _name = Guid.NewGuid().ToString();

    [Fact]
    public async Task Each_call_is_counted_once_by_its_outcome_and_logged_once_when_it_failed()
    {
        using var metrics = new Metrics(_name);
        using var outbound = Named();
        outbound.Server.Answers(503, 200);
        using HttpResponseMessage answered = await outbound.GetAsync();
        outbound.Server.Answers(503);
        using HttpResponseMessage gaveUp = await outbound.GetAsync();
        using HttpResponseMessage notRetried = await outbound.SendAsync(Outbound.Request("POST"));
        outbound.Server.Answer = (_, _, _) => throw new InvalidOperationException("bug");
        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<InvalidOperationException>();
        await CancelAsync(outbound);
        await ExpireAsync(outbound);
        outbound.Policy.CircuitBreakers.For(new HttpAuthority("http", "payments", 80)).Isolate();
        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<CircuitOpenException>();

        metrics.Outcomes.Should().Equal("answered", "gave-up", "not-retried", "failed", "cancelled", "timed-out", "circuit-open");
        outbound.Logs.Texts.Where(text => text.StartsWith("Outbound")).Select(text => text.Split(": ")[1..3]).Select(parts => string.Join(": ", parts)).Should().BeEquivalentTo(
            [
                "GET http://payments:80 gave-up after 3 attempts and 00:00:00: status 503",
                "POST http://payments:80 not-retried after 1 attempts and 00:00:00: status 503",
                "GET http://payments:80 failed after 1 attempts and 00:00:00: bug",
                $"GET http://payments:80 timed-out after 1 attempts and 00:00:02: {Expired()}",
                $"GET http://payments:80 circuit-open after 0 attempts and 00:00:00: {outbound.Logs.Texts.Last().Split(": ")[2]}",
            ],
            options => options.WithStrictOrdering());
        outbound.Logs.Entries.Where(entry => entry.Text.StartsWith("Outbound")).Should().OnlyContain(entry => entry.Level == LogLevel.Warning);
    }

    [Fact]
    public async Task Each_retry_is_an_event_of_the_running_activity()
    {
        using var outbound = new Outbound(o => (o.Retry!.BaseDelay, o.Retry.Jitter) = (TimeSpan.FromMilliseconds(100), RetryPolicies.RetryJitter.None));
        outbound.Time.PassesAtOnce = true;
        outbound.Server.Answers(503);
        using var activity = new Activity("page").Start();

        using HttpResponseMessage response = await outbound.GetAsync();

        activity.Events.Select(each => (each.Name, each.Tags.Single(tag => tag.Key == "attempt").Value, each.Tags.Single(tag => tag.Key == "delay_ms").Value))
            .Should().Equal(("retry", 2, 100d), ("retry", 3, 200d));
    }

    [Fact]
    public async Task A_call_that_succeeds_at_once_leaves_no_event_and_no_line()
    {
        using var outbound = new Outbound();
        using var activity = new Activity("page").Start();

        using HttpResponseMessage response = await outbound.GetAsync();

        activity.Events.Should().BeEmpty();
        outbound.Logs.Entries.Should().BeEmpty();
    }

    [Fact]
    public async Task A_listener_that_throws_harms_nobody()
    {
        using var outbound = Named();
        using var listener = new MeterListener { InstrumentPublished = static (instrument, self) => EnableOurs(instrument, self) };
        int told = 0;
        listener.SetMeasurementEventCallback<long>((_, _, tags, _) =>
        {
            if (tags.ToArray().Any(tag => Equals(tag.Value, _name)))
            {
                told++;
                throw new InvalidOperationException("listener");
            }
        });
        listener.Start();

        using HttpResponseMessage first = await outbound.GetAsync();
        outbound.Server.Answers(404);
        using HttpResponseMessage second = await outbound.GetAsync();

        told.Should().Be(2);
    }

    [Fact]
    public async Task A_logger_that_throws_harms_nobody()
    {
        var server = new Server();
        server.Answers(503);
        using var policy = new OutboundPolicy(
            Outbound.Options(o => (o.IsFailure, o.CircuitBreaker!.ConsecutiveFailures) = (_ => throw new InvalidOperationException(), 1)), new WaitTime(), new BrokenLogger());
        using var invoker = new HttpMessageInvoker(new OutboundPolicyHandler(policy) { InnerHandler = server });

        using HttpResponseMessage response = await invoker.SendAsync(Outbound.Request(), default);

        server.Count.Should().Be(3);
    }

    [Fact]
    public async Task Delegates_that_throw_harm_nobody_and_are_logged()
    {
        using var outbound = Named(o =>
        {
            o.IsRetryable = _ => throw new InvalidOperationException();
            o.IsFailure = _ => throw new InvalidOperationException();
            o.Retry!.ShouldRetry = _ => throw new InvalidOperationException();
            o.CircuitBreaker!.IsFailure = _ => throw new InvalidOperationException();
        });
        var thrown = new HttpRequestException(HttpRequestError.ConnectionError);
        outbound.Server.Answer = (number, _, _) => number == 1 ? Task.FromResult<HttpResponseMessage>(new Reply(503)) : throw thrown;

        using HttpResponseMessage response = await outbound.GetAsync();
        HttpRequestException exception = (await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<HttpRequestException>()).Which;

        exception.Should().BeSameAs(thrown);
        outbound.Server.Count.Should().Be(2);
        outbound.Logs.Texts.Where(text => text.Contains(" failed, so ")).Select(text => text.Split(": ")[1]).Should().Equal(
            "IsFailure failed, so the call is not counted.", "IsRetryable failed, so the call is not retried.",
            "CircuitBreaker.IsFailure failed, so the call is not counted.", "Retry.ShouldRetry failed, so the call is not retried.");
        outbound.Policy.CircuitBreakers.Snapshot().Should().OnlyContain(entry => entry.Failures == 0 && entry.Successes == 0);
    }

    [Fact]
    public async Task Each_attempt_is_a_span_under_the_callers_that_tells_its_number_its_time_and_its_end()
    {
        using var spans = new Spans(_name);
        using var outbound = Named(o => (o.Budget!.Total, o.Retry!.BaseDelay, o.Retry.Jitter) = (TimeSpan.FromSeconds(2), TimeSpan.FromMilliseconds(100), RetryPolicies.RetryJitter.None));
        outbound.Time.PassesAtOnce = true;
        List<string?> current = [];
        outbound.Server.Answer = (number, _, _) =>
        {
            current.Add(Activity.Current?.Id);
            return number == 2 ? throw new HttpRequestException(HttpRequestError.ConnectionError) : Task.FromResult<HttpResponseMessage>(new Reply(number == 1 ? 503 : 200));
        };
        using var page = new Activity("page").Start();

        using HttpResponseMessage response = await outbound.GetAsync();

        Activity.Current.Should().BeSameAs(page);
        page.Events.Should().BeEmpty("the spans tell of the retries");
        current.Should().Equal(spans.Ended.Select(span => span.Id));
        spans.Ended.Should().OnlyContain(span => span.OperationName == "http attempt" && span.Parent == page && span.Kind == ActivityKind.Internal);
        spans.Ended.Select(Tags).Should().Equal(
            "attempt=1 delay_ms=0 left_ms=2000 method=GET address=payments port=80 circuit=closed outcome=failed status_code=503 Error",
            "attempt=2 delay_ms=100 left_ms=1900 method=GET address=payments port=80 circuit=closed outcome=failed type=System.Net.Http.HttpRequestException Error",
            "attempt=3 delay_ms=200 left_ms=1700 method=GET address=payments port=80 circuit=closed outcome=answered status_code=200 Unset");
    }

    [Fact]
    public async Task What_the_circuit_refuses_is_a_span_that_says_so_and_so_is_an_attempt_without_time()
    {
        using var spans = new Spans(_name);
        using var outbound = Named(o => o.CircuitBreaker!.ConsecutiveFailures = 1);
        outbound.Server.Answers(503);
        using HttpResponseMessage opened = await outbound.GetAsync();
        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<CircuitOpenException>();
        HttpRequestMessage late = Outbound.Request();
        late.Options.Set(OutboundRequest.Total, TimeSpan.Zero);
        await FluentActions.Awaiting(() => outbound.SendAsync(late)).Should().ThrowAsync<TimeoutBudgetExceededException>();

        outbound.Server.Count.Should().Be(1);
        spans.Ended.Select(span => $"{span.GetTagItem("backend.toolkit.http.attempt")} {span.GetTagItem("backend.toolkit.http.circuit")} {span.GetTagItem("backend.toolkit.http.outcome")} {span.Status}").Should().Equal(
            "1 closed failed Error", "2 open circuit-open Error", "1 open circuit-open Error", "1  no-time Error");
    }

    [Fact]
    public async Task The_span_of_an_attempt_tells_a_timeout_from_a_caller_who_has_gone()
    {
        using var spans = new Spans(_name);
        using var outbound = Named(o => o.CircuitBreaker = null);
        outbound.Server.Hangs();
        await ExpireAsync(outbound);
        await CancelAsync(outbound);

        spans.Ended.Select(span => $"{span.GetTagItem("backend.toolkit.http.circuit")}{span.GetTagItem("backend.toolkit.http.outcome")} {span.Status}").Should().Equal("timed-out Error", "cancelled Unset");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_listener_of_spans_that_throws_harms_nobody(bool atTheStart)
    {
        int told = 0;
        void Throw(Activity span)
        {
            if (span.Source.Name == "Backend.Toolkit.Http" && span.Parent?.OperationName == _name)
            {
                told++;
                throw new InvalidOperationException("listener");
            }
        }

        using var listener = new ActivityListener { ShouldListenTo = source => source.Name == "Backend.Toolkit.Http", Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData };
        listener.ActivityStarted = atTheStart ? Throw : null;
        listener.ActivityStopped = atTheStart ? null : Throw;
        ActivitySource.AddActivityListener(listener);
        using var outbound = Named();
        outbound.Server.Answers(503, 200);
        using var page = new Activity(_name).Start();

        using HttpResponseMessage response = await outbound.GetAsync();

        told.Should().Be(2);
        response.StatusCode.Should().Be(System.Net.HttpStatusCode.OK);
        Activity.Current.Should().BeSameAs(page);
    }

    private static string Tags(Activity span) => string.Join(' ', [
        .. span.TagObjects.Where(tag => !tag.Key.EndsWith(".name", StringComparison.Ordinal)).Select(tag => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{tag.Key.Split('.')[^1]}={tag.Value}")), $"{span.Status}"]);

    private static void EnableOurs(Instrument instrument, MeterListener listener)
    {
        if (instrument.Meter.Name == "Backend.Toolkit.Http")
        {
            listener.EnableMeasurementEvents(instrument);
        }
    }

    private static async Task CancelAsync(Outbound outbound)
    {
        using var caller = new CancellationTokenSource();
        outbound.Server.Hangs();
        Task<HttpResponseMessage> call = outbound.GetAsync(caller.Token);
        caller.Cancel();
        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>();
    }

    private static async Task ExpireAsync(Outbound outbound)
    {
        HttpRequestMessage request = Outbound.Request();
        request.Options.Set(OutboundRequest.Total, TimeSpan.FromSeconds(2));
        Task<HttpResponseMessage> call = outbound.SendAsync(request);
        outbound.Time.Advance(TimeSpan.FromSeconds(2));
        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>();
    }

    private string Expired() => new TimeoutBudgetExceededException(_name, TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(2)).Message;

    private Outbound Named(Action<OutboundPolicyOptions>? set = null) => new(o =>
    {
        o.Name = _name;
        set?.Invoke(o);
    });

    private sealed class BrokenLogger : ILogger<OutboundPolicy>
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            throw new InvalidOperationException("logger");
    }

    /// <summary>The spans of a policy that have ended.</summary>
    private sealed class Spans : IDisposable
    {
        private readonly ActivityListener _listener;

        public Spans(string name)
        {
            _listener = new ActivityListener
            {
                ShouldListenTo = static source => source.Name == "Backend.Toolkit.Http",
                Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
                ActivityStopped = span =>
                {
                    if (Equals(span.GetTagItem("backend.toolkit.http.name"), name))
                    {
                        Ended.Enqueue(span);
                    }
                },
            };
            ActivitySource.AddActivityListener(_listener);
        }

        public ConcurrentQueue<Activity> Ended { get; } = new();

        public void Dispose() => _listener.Dispose();
    }
}

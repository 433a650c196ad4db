using System.Collections.Concurrent;
using System.Net;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class WorkerTests
{
    [Fact]
    public async Task A_delivery_that_fails_is_attempted_at_the_published_times_and_becomes_a_dead_letter()
    {
        using Rig rig = await Rig.CreateAsync();
        await rig.AddEndpointAsync();
        await rig.EnqueueAsync("msg_1");
        var times = new List<TimeSpan>();
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(_ =>
        {
            times.Add(rig.Time.GetUtcNow() - Support.Start);
            return 500;
        }));

        while ((await rig.Deliveries.ListAsync(new(State: WebhookDeliveryState.Dead))).Count == 0)
        {
            await Rig.StepAsync(worker);
            rig.Time.Advance(times.Count < 3 ? TimeSpan.FromSeconds(1) : TimeSpan.FromMinutes(1));
        }

        TimeSpan[] gaps = [.. times.Zip(times.Skip(1), (earlier, later) => later - earlier)];
        times.Should().HaveCount(10);
        gaps.Zip(rig.Options.Delays.Skip(1)).Should().OnlyContain(pair => pair.First >= pair.Second && pair.First <= pair.Second + TimeSpan.FromMinutes(2));
        (await rig.DeliveryAsync("msg_1")).Should().BeEquivalentTo(new { Attempts = 10, DeadReason = "attempt 10 of 10 failed" });
        (await rig.Deliveries.ListAttemptsAsync((await rig.DeliveryAsync("msg_1")).Id)).Should().HaveCount(10).And.OnlyContain(attempt => attempt.Status == 500);
    }

    [Fact]
    public async Task A_redriven_dead_letter_is_delivered_under_the_same_id_and_a_delivered_one_is_resent()
    {
        using Rig rig = await Rig.CreateAsync(o => o.Schedule = [TimeSpan.Zero]);
        await rig.AddEndpointAsync();
        await rig.EnqueueAsync("msg_1");
        var ids = new List<string>();
        int status = 500;
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(request =>
        {
            ids.Add(Receiver.Id(request));
            return status;
        }));
        await Rig.StepAsync(worker);
        WebhookDelivery dead = await rig.DeliveryAsync("msg_1");
        rig.Time.Advance(TimeSpan.FromSeconds(2));
        status = 200;

        bool redriven = await rig.Deliveries.RedriveAsync(dead.Id);
        await Rig.StepAsync(worker);
        WebhookDelivery delivered = await rig.DeliveryAsync("msg_1");
        bool redrivenAgain = await rig.Deliveries.RedriveAsync(dead.Id);
        bool resent = await rig.Deliveries.ResendAsync(dead.Id);
        await Rig.StepAsync(worker);

        dead.State.Should().Be(WebhookDeliveryState.Dead);
        delivered.State.Should().Be(WebhookDeliveryState.Delivered);
        (redriven, redrivenAgain, resent).Should().Be((true, false, true));
        ids.Should().Equal("msg_1", "msg_1", "msg_1");
    }

    [Fact]
    public async Task A_410_disables_the_endpoint_and_the_audience_is_told()
    {
        using Rig rig = await Rig.CreateAsync();
        string gone = await rig.AddEndpointAsync("gone.example.com");
        await rig.AddEndpointAsync("well.example.com");
        await rig.EnqueueAsync("msg_1");
        var received = new ConcurrentQueue<string>();
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(async (request, token) =>
        {
            received.Enqueue($"{request.RequestUri!.Host} {await request.Content!.ReadAsStringAsync(token)}");
            return new HttpResponseMessage(request.RequestUri!.Host == "gone.example.com" ? HttpStatusCode.Gone : HttpStatusCode.OK);
        }));

        await Rig.StepAsync(worker);
        await Rig.StepAsync(worker);

        (await rig.Endpoints.FindAsync(gone))!.Should().BeEquivalentTo(new { IsEnabled = false, DisabledReason = "the endpoint answered 410 Gone" });
        received.Should().ContainSingle(text => text.StartsWith("well.example.com", StringComparison.Ordinal) && text.Contains("webhook.endpoint.disabled") && text.Contains(gone));
    }

    [Fact]
    public async Task An_endpoint_that_only_fails_is_left_alone_more_and_more_and_disabled_after_days()
    {
        using Rig rig = await Rig.CreateAsync();
        string id = await rig.AddEndpointAsync();
        for (int i = 0; i < 50; i++)
        {
            await rig.EnqueueAsync($"msg_{i}");
        }

        int attempts = 0;
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(_ => (++attempts, 500).Item2));

        for (int second = 0; second < 3600; second++)
        {
            await Rig.StepAsync(worker);
            rig.Time.Advance(TimeSpan.FromSeconds(1));
        }

        int inTheFirstHour = attempts;
        for (int minute = 0; minute < 6 * 24 * 60 && (await rig.Endpoints.FindAsync(id))!.IsEnabled; minute += 5)
        {
            if (minute % 60 == 0)
            {
                await rig.EnqueueAsync($"later_{minute}");
            }

            await Rig.StepAsync(worker);
            rig.Time.Advance(TimeSpan.FromMinutes(5));
        }

        await rig.Store.MaintainAsync(TimeSpan.FromDays(30), 100);
        inTheFirstHour.Should().BeInRange(10, 22, "pauses of 1, 2, 4 … 256 s, then of 5 min");
        (rig.Time.GetUtcNow() - Support.Start).Should().BeCloseTo(TimeSpan.FromDays(5), TimeSpan.FromHours(3));
        (await rig.Endpoints.FindAsync(id))!.DisabledReason.Should().StartWith("nothing but failures for 5");
        (await rig.Deliveries.ListAsync(new(State: WebhookDeliveryState.Pending))).Should().BeEmpty("all became dead letters");
    }

    [Fact]
    public async Task What_was_not_delivered_in_the_window_is_not_attempted_after_it()
    {
        using Rig rig = await Rig.CreateAsync();
        await rig.AddEndpointAsync();
        await rig.EnqueueAsync("msg_1");
        int attempts = 0;
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(_ => (++attempts, 500).Item2));
        await Rig.StepAsync(worker);

        rig.Time.Advance(TimeSpan.FromHours(81));
        await Rig.StepAsync(worker);

        attempts.Should().Be(1);
        (await rig.DeliveryAsync("msg_1")).Should().BeEquivalentTo(new { State = WebhookDeliveryState.Dead, DeadReason = "the window for attempts is over" });
    }

    [Fact]
    public async Task An_endpoint_with_a_long_backlog_does_not_keep_another_waiting()
    {
        using Rig rig = await Rig.CreateAsync();
        string busy = await rig.AddEndpointAsync("busy.example.com");
        for (int i = 0; i < 300; i++)
        {
            await rig.EnqueueAsync($"msg_{i}");
        }

        var hosts = new ConcurrentQueue<string>();
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(request =>
        {
            hosts.Enqueue(request.RequestUri!.Host);
            return 200;
        }));
        await Rig.StepAsync(worker);
        await rig.AddEndpointAsync("other.example.com");
        await rig.EnqueueAsync("msg_last");

        // Fan-out is oldest first, and these are few.
        await Rig.StepAsync(worker);
        await Rig.StepAsync(worker);

        hosts.Should().Contain("other.example.com");
        hosts.Count(host => host == "busy.example.com").Should().BeLessThanOrEqualTo(1 + 2 + 8, "it begins with one at a time");
        (await rig.Deliveries.ListAsync(new(EndpointId: busy, State: WebhookDeliveryState.Pending), limit: 1000)).Should().NotBeEmpty();
    }

    [Fact]
    public async Task A_fan_out_that_takes_long_is_made_in_smaller_pieces_and_a_quick_one_in_larger()
    {
        using Rig rig = await Rig.CreateAsync();
        var limits = new List<int>();
        TimeSpan takes = TimeSpan.FromMilliseconds(80);
        rig.Store.BeforeFanOut = limit =>
        {
            limits.Add(limit);
            rig.Time.Advance(takes);
        };
        for (int i = 0; i < 400; i++)
        {
            await rig.EnqueueAsync($"msg_{i}");
        }

        WebhookDeliveryWorker worker = rig.Worker(new Receiver(_ => 200));
        for (int i = 0; i < 6; i++)
        {
            await Rig.StepAsync(worker);
        }

        takes = TimeSpan.Zero;
        for (int i = 0; i < 7; i++)
        {
            await Rig.StepAsync(worker);
        }

        limits.Should().Equal(16, 8, 4, 2, 1, 1, 1, 2, 4, 8, 16, 32, 64);
    }

    [Fact]
    public async Task Endpoints_beyond_the_slots_have_their_turn()
    {
        using Rig rig = await Rig.CreateAsync(o => o.MaxConcurrency = 4);
        for (int i = 0; i < 12; i++)
        {
            await rig.AddEndpointAsync($"host-{i}.example.com");
        }

        for (int i = 0; i < 20; i++)
        {
            await rig.EnqueueAsync($"msg_{i}");
        }

        var hosts = new ConcurrentQueue<string>();
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(request =>
        {
            hosts.Enqueue(request.RequestUri!.Host);
            return 500;
        }));

        for (int i = 0; i < 6; i++)
        {
            await Rig.StepAsync(worker);
        }

        hosts.Should().HaveCount(12).And.OnlyHaveUniqueItems("half of four slots, six times, each endpoint once");
    }

    [Fact]
    public async Task Who_slept_through_its_lease_sends_nothing_and_gives_the_claim_back()
    {
        using Rig rig = await Rig.CreateAsync();
        await rig.AddEndpointAsync();
        await rig.EnqueueAsync("msg_1");
        int attempts = 0;
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(_ => (++attempts, 200).Item2));
        rig.Store.AfterClaiming = () => rig.Time.Advance(TimeSpan.FromSeconds(50));

        await Rig.StepAsync(worker);
        int asleep = attempts;
        WebhookDelivery given = await rig.DeliveryAsync("msg_1");
        rig.Store.AfterClaiming = static () => { };
        await Rig.StepAsync(worker);

        asleep.Should().Be(0);
        given.Should().BeEquivalentTo(new { State = WebhookDeliveryState.Pending, Attempts = 0 });
        attempts.Should().Be(1);
    }

    [Fact]
    public async Task A_stop_in_the_middle_of_a_claim_loses_no_claim()
    {
        using Rig rig = await Rig.CreateAsync();
        await rig.AddEndpointAsync();
        await rig.EnqueueAsync("msg_1");
        using var stop = new CancellationTokenSource();
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(_ => 200));
        rig.Store.AfterClaiming = stop.Cancel;

        (_, Task attempts) = await worker.StepAsync(stop.Token);
        await attempts;
        await worker.RecordFinishedAsync();

        (await rig.DeliveryAsync("msg_1")).State.Should().Be(WebhookDeliveryState.Delivered);
    }

    [Fact]
    public async Task A_stop_lets_attempts_end_and_records_them()
    {
        using var running = await Running.StartAsync();
        await running.EnqueueAsync("msg_1");
        await running.Began.Task.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);

        Task stopping = running.Worker.StopAsync();
        bool stoppedAtOnce = stopping.IsCompleted;
        running.Answer.SetResult(new HttpResponseMessage(HttpStatusCode.OK));
        await stopping.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);

        stoppedAtOnce.Should().BeFalse();
        (await running.DeliveryAsync("msg_1")).State.Should().Be(WebhookDeliveryState.Delivered);
    }

    [Fact]
    public async Task A_stop_that_may_not_wait_gives_attempts_back_at_once()
    {
        using var running = await Running.StartAsync();
        await running.EnqueueAsync("msg_1");
        await running.Began.Task.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);

        await running.Worker.StopAsync(new CancellationToken(canceled: true)).WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);

        WebhookDelivery delivery = await running.DeliveryAsync("msg_1");
        delivery.Should().BeEquivalentTo(new { State = WebhookDeliveryState.Pending, Attempts = 0 });
        delivery.NextAttemptAt.Should().BeOnOrBefore(TimeProvider.System.GetUtcNow());
    }

    [Fact]
    public async Task A_worker_that_is_told_not_to_deliver_leaves_it_to_others()
    {
        using var running = await Running.StartAsync(o => o.Deliver = false);
        await running.EnqueueAsync("msg_1");

        await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System, CancellationToken.None);

        running.Began.Task.IsCompleted.Should().BeFalse();
    }

    [Fact]
    public async Task Options_that_are_reloaded_say_whether_it_delivers()
    {
        await using var server = Loopback.Answering("200 OK");
        using var rig = await Rig.CreateAsync();
        await using var worker = new WebhookDeliveryWorker(Support.Options(o => o.Deliver = false), rig.Store);
        var outbox = new WebhookOutbox(rig.Store, worker);
        await new WebhookEndpoints(Support.Options(), rig.Store).CreateAsync("acme", server.Url);
        await worker.StartAsync();
        await outbox.EnqueueAsync(new WebhookEvent("order.created", default, "acme"));

        worker.Update(Support.Options());
        await Support.UntilAsync(() => !server.Requests.IsEmpty, "it is delivered when the options say so");
        worker.Update(Support.Options(o => o.Deliver = false));
        await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, CancellationToken.None);
        await outbox.EnqueueAsync(new WebhookEvent("order.created", default, "acme"));
        await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System, CancellationToken.None);

        server.Requests.Should().ContainSingle();
    }

    [Fact]
    public async Task An_event_of_this_process_is_attempted_soon_after_its_commit_however_seldom_the_store_is_asked()
    {
        using var running = await Running.StartAsync(o => o.PollInterval = TimeSpan.FromMinutes(1));

        TimeSpan[] delays = await running.DelaysAsync(running.Outbox);

        delays.Min().Should().BeLessThan(TimeSpan.FromSeconds(5), "the next poll is a minute away");
        delays.Should().OnlyContain(delay => delay < TimeSpan.FromSeconds(20));
    }

    [Fact]
    public async Task An_event_of_another_process_is_attempted_at_the_next_poll()
    {
        using var running = await Running.StartAsync();

        TimeSpan[] delays = await running.DelaysAsync(new WebhookOutbox(running.Store));

        delays.Order().ElementAt(delays.Length / 2).Should().BeLessThan(TimeSpan.FromSeconds(2), "it polls every 200 ms, and the machine may be slow");
    }

    [Fact]
    public async Task When_the_store_is_down_nothing_is_lost_and_work_goes_on_when_it_is_back()
    {
        using var running = await Running.StartAsync();
        running.Answer.SetResult(new HttpResponseMessage(HttpStatusCode.OK));
        int failures = 0;
        running.Store.BeforeRecording = () =>
        {
            if (++failures <= 2)
            {
                throw new IOException("down");
            }
        };
        running.Store.Before = () =>
        {
            if (failures == 1)
            {
                throw new IOException("down");
            }
        };

        await running.EnqueueAsync("msg_1");
        await running.EnqueueAsync("msg_2");

        await Support.UntilAsync(async () => (await running.Store.ListDeliveriesAsync(new(State: WebhookDeliveryState.Delivered), null, 10)).Count == 2, "both are recorded");
        failures.Should().BeGreaterThan(2);
        await running.Worker.StopAsync();
    }

    [Fact]
    public async Task What_cannot_be_deleted_keeps_nothing_from_being_delivered()
    {
        using Rig rig = await Rig.CreateAsync();
        await rig.AddEndpointAsync();
        int maintained = 0;
        rig.Store.BeforeMaintaining = () =>
        {
            Interlocked.Increment(ref maintained);
            throw new IOException("a foreign key");
        };
        await using var worker = new WebhookDeliveryWorker(rig.Options, rig.Store, null, null, new Receiver(_ => 200), null);

        await worker.StartAsync();
        await Support.UntilAsync(() => Volatile.Read(ref maintained) > 0, "it tried to delete");
        await rig.EnqueueAsync("msg_1");
        await Support.UntilAsync(async () => (await rig.DeliveriesAsync()).Any(delivery => delivery.State == WebhookDeliveryState.Delivered), "it is delivered");

        maintained.Should().BeGreaterThan(0);
    }

    [Fact]
    public async Task After_a_full_batch_of_deletions_the_next_is_made_at_once()
    {
        using Rig rig = await Rig.CreateAsync();
        int batches = 0;
        rig.Store.Maintained = _ => Interlocked.Increment(ref batches) < 4 ? 1000 : 0;
        await using var worker = new WebhookDeliveryWorker(rig.Options, rig.Store, null, null, new Receiver(_ => 200), null);

        await worker.StartAsync();

        await Support.UntilAsync(() => Task.FromResult(Volatile.Read(ref batches) == 4), "four batches, and not one every five seconds", seconds: 8);
    }

    [Fact]
    public async Task A_claim_is_good_for_the_lease_that_it_was_made_with()
    {
        using Rig rig = await Rig.CreateAsync();
        await rig.AddEndpointAsync();
        await rig.EnqueueAsync("msg_1");
        int attempts = 0;
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(_ => (++attempts, 200).Item2));
        rig.Store.AfterClaiming = () => worker.Update(new WebhookDeliveryOptions { Name = "tests", AttemptTimeout = TimeSpan.FromMinutes(5), Lease = TimeSpan.FromHours(1) });

        await Rig.StepAsync(worker);

        attempts.Should().Be(0, "an attempt of five minutes would outlive the lease of one");
    }

    private sealed class Running : IDisposable
    {
        private readonly SqliteDatabase _database = new();

        private Running(Action<WebhookDeliveryOptions>? configure)
        {
            var options = new WebhookDeliveryOptions { Name = "tests" };
            configure?.Invoke(options);
            Store = new TroubledStore(Support.Store(_database, TimeProvider.System));
            Worker = new WebhookDeliveryWorker(options, Store, null, null, new Receiver(AnswerAsync), null);
            Outbox = new WebhookOutbox(Store, Worker);
        }

        public string ConnectionString => _database.ConnectionString;

        public TroubledStore Store { get; }

        public WebhookDeliveryWorker Worker { get; }

        public WebhookOutbox Outbox { get; }

        public TaskCompletionSource Began { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource<HttpResponseMessage> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public ConcurrentDictionary<string, long> Received { get; } = [];

        public static async Task<Running> StartAsync(Action<WebhookDeliveryOptions>? configure = null)
        {
            var running = new Running(configure);
            await running.Worker.StartAsync();
            await running.Store.InsertEndpointAsync(new(Support.Claim().Endpoint, Support.Claim().Secrets, 0));
            return running;
        }

        public ValueTask<string> EnqueueAsync(string id) => Outbox.EnqueueAsync(new WebhookEvent("order.created", "{}"u8.ToArray(), "acme", id));

        public async Task<WebhookDelivery> DeliveryAsync(string id) => (await Store.ListDeliveriesAsync(new(EventId: id), null, 10)).Single();

        /// <summary>From commits to the requests, after idle times.</summary>
        public async Task<TimeSpan[]> DelaysAsync(WebhookOutbox outbox)
        {
            Answer.SetResult(new HttpResponseMessage(HttpStatusCode.OK));
            await EnqueueAsync("warm");
            await Support.UntilAsync(() => Received.ContainsKey("warm"), "warm");
            var delays = new List<TimeSpan>();
            for (int i = 0; i < 7; i++)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(450), TimeProvider.System, CancellationToken.None);
                await using Microsoft.Data.Sqlite.SqliteConnection connection = new(ConnectionString);
                await connection.OpenAsync();
                await using var transaction = (Microsoft.Data.Sqlite.SqliteTransaction)await connection.BeginTransactionAsync();
                string id = await outbox.EnqueueAsync(new WebhookEvent("order.created", "{}"u8.ToArray(), "acme", $"timed_{i}"), transaction);
                await transaction.CommitAsync();
                long committed = TimeProvider.System.GetTimestamp();
                await Support.UntilAsync(() => Received.ContainsKey(id), id);
                delays.Add(TimeProvider.System.GetElapsedTime(committed, Received[id]));
            }

            await Worker.StopAsync();
            return [.. delays];
        }

        public void Dispose() => _database.Dispose();

        private async Task<HttpResponseMessage> AnswerAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Received.TryAdd(Receiver.Id(request), TimeProvider.System.GetTimestamp());
            Began.TrySetResult();
            HttpResponseMessage answer = await Answer.Task.WaitAsync(cancellationToken);
            return new HttpResponseMessage(answer.StatusCode);
        }
    }
}

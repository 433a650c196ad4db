using System.Collections.Concurrent;
using System.Net;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>
/// Weeks in seconds: several workers over one store, endpoints that are well, flaky, dead, gone or busy, workers that are killed between the answer and its record. The rules are checked as requests come and when
/// all is over. The seed is in the name of each case.
/// </summary>
public sealed class SimulationTests
{
    private static bool IsSoak => Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_SOAK") == "1";

    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, IsSoak ? 100 : 4)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task Every_event_is_delivered_or_dead_in_the_order_of_its_key_and_at_its_times(int seed)
    {
        using Rig rig = await Rig.CreateAsync();
        var simulation = new Simulation(rig, new Random(seed));

        await simulation.RunAsync();

        simulation.Trouble.Should().BeEmpty();
        simulation.Kills.Should().BeGreaterThan(0, "else nothing was proven of them");
        IReadOnlyList<WebhookDelivery> deliveries = await simulation.AllAsync();
        int disabled = (await rig.Endpoints.ListAsync(null)).Count(endpoint => !endpoint.IsEnabled);
        WebhookDelivery[] told = [.. deliveries.Where(delivery => delivery.EventType == WebhookEndpoints.DisabledType)];
        (deliveries.Count - told.Length).Should().Be(Simulation.Events * Simulation.Hosts.Length);
        told.Length.Should().BeInRange(disabled * (Simulation.Hosts.Length - disabled), disabled * (Simulation.Hosts.Length - 1), "all that were enabled by then are told");
        told.Where(delivery => delivery.EventId.Contains(delivery.EndpointId, StringComparison.Ordinal)).Should().BeEmpty("nobody is told of itself");
        deliveries.Count(delivery => delivery.State == WebhookDeliveryState.Pending).Should().Be(0);
        deliveries.Where(delivery => delivery.State == WebhookDeliveryState.Delivered && !simulation.HasAccepted(delivery)).Should().BeEmpty();
        deliveries.Where(delivery => delivery.EndpointId == simulation.Ids["well"]).Should().OnlyContain(delivery => delivery.State == WebhookDeliveryState.Delivered);
    }

    private sealed class Simulation(Rig rig, Random random)
    {
        public const int Events = 60;

        private readonly Dictionary<(string Endpoint, string Event), List<DateTimeOffset>> _requests = [];
        private readonly Dictionary<string, DateTimeOffset> _enqueued = [];
        private readonly Dictionary<string, string?> _keys = [];
        private readonly HashSet<(string, string)> _disturbed = [];
        private readonly ConcurrentDictionary<(string Endpoint, string Key), int> _underWay = [];
        private readonly WebhookDeliveryWorker[] _workers = new WebhookDeliveryWorker[3];

        public static string[] Hosts { get; } = ["well", "flaky", "dead", "busy", "gone"];

        public Dictionary<string, string> Ids { get; } = [];

        public ConcurrentBag<string> Trouble { get; } = [];

        public HashSet<(string Endpoint, string Event)> Accepted { get; } = [];

        public int Kills { get; private set; }

        public bool HasAccepted(WebhookDelivery delivery) => Accepted.Contains((delivery.EndpointId, delivery.EventId));

        public async Task RunAsync()
        {
            foreach (string host in Hosts)
            {
                Ids[host] = await rig.AddEndpointAsync($"{host}.example.com");
            }

            for (int i = 0; i < _workers.Length; i++)
            {
                _workers[i] = NewWorker();
            }

            int enqueued = 0;
            while (enqueued < Events || await IsAnythingLeftAsync())
            {
                for (int burst = random.Next(4); burst > 0 && enqueued < Events && random.Next(12) == 0; burst--)
                {
                    string id = $"msg_{enqueued++}";
                    _keys[id] = random.Next(3) switch { 0 => "a", 1 => "b", _ => null };
                    _enqueued[id] = rig.Time.GetUtcNow();
                    await rig.EnqueueAsync(id, _keys[id]);
                }

                await StepAsync(random.Next(_workers.Length));
                if (random.Next(5) == 0)
                {
                    await rig.Store.MaintainAsync(TimeSpan.FromDays(365), 1000);
                }

                rig.Time.Advance(TimeSpan.FromMinutes(enqueued < Events ? 4 : 25) * random.NextDouble());
                if (rig.Time.GetUtcNow() - Support.Start > TimeSpan.FromDays(90))
                {
                    Trouble.Add("after ninety days there is something pending");
                    return;
                }
            }
        }

        /// <summary>The last attempt of all may have disabled its endpoint, of which there is an event that nobody has fanned out yet.</summary>
        private async Task<bool> IsAnythingLeftAsync() =>
            (await rig.Store.ListDeliveriesAsync(new(State: WebhookDeliveryState.Pending), null, 1)).Count > 0 || await rig.Store.FanOutAsync(1000) > 0;

        public async Task<IReadOnlyList<WebhookDelivery>> AllAsync() => await rig.Store.ListDeliveriesAsync(new(), null, 10_000);

        private WebhookDeliveryWorker NewWorker() => rig.Worker(new Receiver(AnswerAsync), random.NextDouble);

        private async Task StepAsync(int index)
        {
            (_, Task attempts) = await _workers[index].StepAsync(CancellationToken.None);
            await attempts;
            if (random.Next(40) == 0)
            {
                // Killed before it recorded: its claims are left to their leases.
                IReadOnlyList<WebhookDelivery> left = await rig.Store.ListDeliveriesAsync(new(State: WebhookDeliveryState.Pending), null, 10_000);
                foreach (WebhookDelivery delivery in left)
                {
                    _disturbed.Add((delivery.EndpointId, delivery.EventId));
                }

                Kills++;
                _workers[index] = NewWorker();
                return;
            }

            await _workers[index].RecordFinishedAsync();
        }

        private async Task<HttpResponseMessage> AnswerAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            string host = request.RequestUri!.Host.Split('.')[0];
            string endpoint = Ids[host];
            string id = Receiver.Id(request);
            string? key = _keys.GetValueOrDefault(id);
            if (key is not null && _underWay.AddOrUpdate((endpoint, key), 1, static (_, count) => count + 1) > 1)
            {
                Trouble.Add($"two of key {key} are under way to {host}");
            }

            await Task.Yield();
            HttpResponseMessage answer;
            lock (_requests)
            {
                CheckTimes(host, endpoint, id);
                CheckOrder(endpoint, id, key);
                answer = new HttpResponseMessage(host switch
                {
                    "well" => HttpStatusCode.OK,
                    "flaky" => random.Next(3) > 0 ? HttpStatusCode.OK : HttpStatusCode.InternalServerError,
                    "busy" => random.Next(2) == 0 ? HttpStatusCode.OK : HttpStatusCode.TooManyRequests,
                    "gone" => Accepted.Count > 60 ? HttpStatusCode.Gone : HttpStatusCode.OK,
                    _ => HttpStatusCode.BadGateway,
                });
                if (answer.StatusCode == HttpStatusCode.TooManyRequests)
                {
                    answer.Headers.RetryAfter = new(TimeSpan.FromSeconds(random.Next(12) == 0 ? 400_000 : random.Next(7200)));
                }

                if (answer.IsSuccessStatusCode)
                {
                    Accepted.Add((endpoint, id));
                }
            }

            if (key is not null)
            {
                _underWay.AddOrUpdate((endpoint, key), 0, static (_, count) => count - 1);
            }

            return answer;
        }

        private void CheckTimes(string host, string endpoint, string id)
        {
            if (!_requests.TryGetValue((endpoint, id), out List<DateTimeOffset>? times))
            {
                _requests.Add((endpoint, id), times = []);
            }

            DateTimeOffset now = rig.Time.GetUtcNow();
            times.Add(now);
            bool disturbed = _disturbed.Contains((endpoint, id));
            if (times.Count > 1 && !disturbed && now - times[^2] < rig.Options.Delays[times.Count - 1] * 0.8 - TimeSpan.FromMilliseconds(2))
            {
                Trouble.Add($"attempt {times.Count} of {id} to {host} came {now - times[^2]} after the one before");
            }

            if (now - times[0] > rig.Options.AttemptWindow)
            {
                Trouble.Add($"attempt {times.Count} of {id} to {host} came {now - times[0]} after the first");
            }

            if (times.Count > rig.Options.Delays.Count && !disturbed)
            {
                Trouble.Add($"{id} was attempted {times.Count} times at {host}");
            }

            // Three workers take turns at random: of an event without a key nothing is in the way of the first attempt to an endpoint that is well.
            if (host == "well" && times.Count == 1 && _keys.GetValueOrDefault(id) is null && _enqueued.TryGetValue(id, out DateTimeOffset enqueued) && now - enqueued > TimeSpan.FromHours(2))
            {
                Trouble.Add($"{id} waited {now - enqueued} for its first attempt at {host}");
            }
        }

        private void CheckOrder(string endpoint, string id, string? key)
        {
            if (key is null)
            {
                return;
            }

            int number = int.Parse(id[4..], System.Globalization.CultureInfo.InvariantCulture);
            foreach (WebhookDelivery earlier in rig.Store.ListDeliveriesAsync(new(EndpointId: endpoint, State: WebhookDeliveryState.Pending), null, 10_000).AsTask().Result)
            {
                if (earlier.OrderKey == key && int.Parse(earlier.EventId[4..], System.Globalization.CultureInfo.InvariantCulture) < number)
                {
                    Trouble.Add($"{id} went before {earlier.EventId}");
                }
            }
        }
    }
}

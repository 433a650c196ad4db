using System.Globalization;
using Backend.Toolkit.Http;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;

namespace Shop;

/// <summary>
/// Services that call each other over HTTP, each an application of its own on this machine, with the code that many have: no service hands its token
/// on. With and without the toolkit differ in what is registered, and in nothing else.
/// </summary>
internal static class Chain
{
    /// <summary>Static timeouts of 20, 15 and 10 s, ten times as fast. The first service is slow before it calls, the last has much to do.</summary>
    private static readonly TimeSpan[] Timeouts = [TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(1.5), TimeSpan.FromSeconds(1)];
    private static readonly TimeSpan SlowBeforeCall = TimeSpan.FromSeconds(1.7);
    private static readonly TimeSpan Work = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Step = TimeSpan.FromMilliseconds(10);

    public static async Task<Incident[]> PlayAsync(Progress progress, CancellationToken stopping)
    {
        progress.Step("with the toolkit: a slow service in a chain");
        TimeSpan with = await WorkForNobodyAsync(toolkit: true, stopping);
        progress.Step("without the toolkit: a slow service in a chain");
        TimeSpan without = await WorkForNobodyAsync(toolkit: false, stopping);
        progress.Step("with and without the toolkit: a retry storm");
        int ours = await RequestsAtTheBottomAsync(toolkit: true, stopping), standard = await RequestsAtTheBottomAsync(toolkit: false, stopping);
        progress.Say(string.Create(CultureInfo.InvariantCulture, $"""
            user -> A -> B -> C, timeouts 2, 1.5 and 1 s, A slow for 1.7 s before it calls: C works on after the user has gone
            with {with.TotalMilliseconds:0} ms, without {without.TotalMilliseconds:0} ms.
            Four services, the bottom one fails: requests at the bottom for one of a user
            with {ours}, with the standard handler of Microsoft.Extensions.Http.Resilience {standard}.

            """));
        return
        [
            new Incident("retry storm over four layers", "requests at the bottom for one of a user", $"{ours}", $"{standard} (.NET's standard handler)"),
            new Incident("a slow service in a chain of three", "work after the user has gone", Incident.Milliseconds(with), Incident.Milliseconds(without)),
        ];
    }

    /// <summary>A -> B -> C. The user waits for the first timeout, and goes.</summary>
    /// <returns>How long C still worked then.</returns>
    public static async Task<TimeSpan> WorkForNobodyAsync(bool toolkit, CancellationToken stopping)
    {
        long start = TimeProvider.System.GetTimestamp();
        TimeSpan lastStep = TimeSpan.Zero;
        var ended = new TaskCompletionSource();
        await using WebApplication c = await StartAsync(null, async context =>
        {
            try
            {
                for (TimeSpan done = TimeSpan.Zero; done < Work; done += Step)
                {
                    await Task.Delay(Step, context.RequestAborted);
                    lastStep = TimeProvider.System.GetElapsedTime(start);
                }
            }
            finally
            {
                ended.SetResult();
            }
        });
        await using WebApplication b = await StartAsync(Client(c, Timeouts[2]), Call);
        await using WebApplication a = await StartAsync(Client(b, Timeouts[1]), async context =>
        {
            await Task.Delay(SlowBeforeCall, stopping);
            await Call(context);
        });
        await using ServiceProvider users = Services(Client(a, Timeouts[0])).BuildServiceProvider();

        start = TimeProvider.System.GetTimestamp();
        try
        {
            using HttpResponseMessage response = await users.GetRequiredService<IHttpClientFactory>().CreateClient("next").GetAsync("", stopping);
        }
        catch (Exception late) when (late is OperationCanceledException or TimeoutException)
        {
        }

        TimeSpan left = TimeProvider.System.GetElapsedTime(start);
        await ended.Task.WaitAsync(TimeSpan.FromSeconds(20), stopping);
        return lastStep > left ? lastStep - left : TimeSpan.Zero;

        Action<IServiceCollection> Client(WebApplication next, TimeSpan timeout) => services =>
        {
            IHttpClientBuilder client = Loopback.AddClient(services, "next", next.Urls.First(), toolkit ? Timeout.InfiniteTimeSpan : timeout);
            if (toolkit)
            {
                client.AddOutboundPolicy(o => o.Budget!.Total = timeout);
            }
        };
    }

    /// <summary>Three services that call the next, and one that always fails. Nobody waits between attempts.</summary>
    /// <returns>How many requests the last one gets for one of a user: the toolkit's handler and inbound budgets, or the standard handler.</returns>
    public static async Task<int> RequestsAtTheBottomAsync(bool toolkit, CancellationToken stopping)
    {
        int requests = 0;
        List<WebApplication> services =
        [
            await StartAsync(null, context =>
            {
                Interlocked.Increment(ref requests);
                context.Response.StatusCode = StatusCodes.Status500InternalServerError;
                return Task.CompletedTask;
            }),
        ];
        for (int i = 0; i < 3; i++)
        {
            services.Add(await StartAsync(Client(services[^1]), Call));
        }

        using HttpClient user = Loopback.NewClient(services[^1].Urls.First());
        using HttpResponseMessage response = await user.GetAsync("", stopping);
        for (int i = services.Count - 1; i >= 0; i--)
        {
            await services[i].DisposeAsync();
        }

        return requests;

        Action<IServiceCollection> Client(WebApplication next) => services =>
        {
            IHttpClientBuilder client = Loopback.AddClient(services, "next", next.Urls.First());
            if (toolkit)
            {
                client.AddOutboundPolicy(o => o.Retry!.BaseDelay = TimeSpan.Zero);
            }
            else
            {
                client.AddStandardResilienceHandler(o => o.Retry.Delay = TimeSpan.Zero);
            }
        };
    }

    /// <summary>Calls the next service, and fails when that does.</summary>
    private static async Task Call(HttpContext context)
    {
        HttpClient next = context.RequestServices.GetRequiredService<IHttpClientFactory>().CreateClient("next");
        using HttpResponseMessage response = await next.GetAsync("");
        context.Response.StatusCode = response.IsSuccessStatusCode ? StatusCodes.Status200OK : StatusCodes.Status502BadGateway;
    }

    private static IServiceCollection Services(Action<IServiceCollection> client)
    {
        var services = new ServiceCollection();
        client(services);
        return services;
    }

    private static Task<WebApplication> StartAsync(Action<IServiceCollection>? client, RequestDelegate answer) => Loopback.StartAsync(client, answer, app => app.UseTimeoutBudgets());
}

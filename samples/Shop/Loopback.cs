namespace Shop;

/// <summary>Applications of the tour's own.</summary>
internal static class Loopback
{
    /// <summary>A server on a free port that answers all requests alike.</summary>
    /// <param name="services">What it is made of, or null.</param>
    /// <param name="answer">Its last middleware.</param>
    /// <param name="use">What stands before that, or null.</param>
    public static async Task<WebApplication> StartAsync(Action<IServiceCollection>? services, RequestDelegate answer, Action<WebApplication>? use = null)
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        services?.Invoke(builder.Services);
        WebApplication app = builder.Build();
        use?.Invoke(app);
        app.Run(answer);
        await app.StartAsync();
        return app;
    }

    /// <summary>A client of a server on this machine: whatever the environment says, no proxy is asked.</summary>
    public static HttpClient NewClient(string address) => new(new SocketsHttpHandler { UseProxy = false }) { BaseAddress = new Uri(address) };

    /// <summary>The same out of a container. No timeout: that of an <see cref="HttpClient"/>.</summary>
    public static IHttpClientBuilder AddClient(IServiceCollection services, string name, string address, TimeSpan? timeout = null) => services
        .AddHttpClient(name, http => (http.BaseAddress, http.Timeout) = (new Uri(address), timeout ?? http.Timeout))
        .UseSocketsHttpHandler((handler, _) => handler.UseProxy = false);
}
